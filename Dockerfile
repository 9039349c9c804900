# The image of a deployment: the runner, its locked dependencies, and functions/.
#
#   docker build -t fnrun .
#   docker run -p 8000:8000 -v fnrun-data:/app/.fnrun fnrun

ARG PYTHON_VERSION=3.11

# --- builder: everything that needs pip or the network --------------------------------------------------------------
FROM python:${PYTHON_VERSION}-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# No pip inside: the final image has no use for a second one.
RUN python -m venv --without-pip /opt/venv

# Dependencies before the code, so that a change of code reuses this layer.
COPY requirements.lock ./
RUN pip --python /opt/venv/bin/python install --no-compile --require-hashes -r requirements.lock

COPY . ./
# Bytecode is made here once. "unchecked": nobody edits the environment, so its sources need not be looked at again.
RUN pip --python /opt/venv/bin/python install --no-compile --no-deps . \
 && /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/venv/lib

# Both are optional. Functions get no bytecode here: a derived image or a mount may replace their sources.
RUN mkdir -p /out/functions \
 && if [ -d functions ]; then cp -R functions/. /out/functions/; fi \
 && if [ -f functions.toml ]; then cp functions.toml /out/; fi

# --- final -----------------------------------------------------------------------------------------------------------
FROM python:${PYTHON_VERSION}-slim

# A fixed number, so that volumes and `runAsNonRoot` can name it.
RUN groupadd --gid 10001 fnrun \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /app --shell /usr/sbin/nologin fnrun \
 && install -d -o fnrun -g fnrun -m 0755 /app \
 && install -d -o fnrun -g fnrun -m 0700 /app/.fnrun

COPY --from=builder /opt/venv /opt/venv
WORKDIR /app
# Owned by root, so that a handler does not overwrite the code it runs by mistake.
COPY --from=builder /out/ ./

# Inside a container loopback reaches nobody, so bind to every address.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    FNRUN_HTTP__BIND=0.0.0.0:8000

USER 10001:10001
# Keys and the embedded store: the one folder that must outlive the container.
VOLUME /app/.fnrun
EXPOSE 8000
# It asks the roles that FNRUN_SERVE__ONLY says: name them there rather than in the command.
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 CMD ["fnrun", "health"]
STOPSIGNAL SIGTERM
# In exec form, so that Python is process 1 and gets the signal itself.
CMD ["fnrun", "serve"]
