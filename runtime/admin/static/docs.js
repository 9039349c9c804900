// The page: one fold an operation, the list with its filter and its links, the key.
"use strict";

// --- one operation ---------------------------------------------------------------------------------------------------

/** The form that tries an operation: its parameters and its body are told where they are typed in. */
function tryForm(operation) {
  const inputs = operation.parameters.map((parameter) => {
    const [media] = Object.values(parameter.content ?? {}); // instead of a schema: text in that type
    const withheld = parameter.in === "cookie" || (parameter.in === "header" && isWithheld(parameter.name));
    const { required, description } = parameter;
    const given = examplesOf({ ...media, ...parameter })[0]?.[1];
    const note = withheld ? "Browsers do not let a page set this: it is in the command below only." : null;
    const schema = parameter.schema ?? media?.schema ?? {};
    const input = field(parameter.name, schema, { required, must: parameter.in === "path", description, given, note });
    return { parameter: { ...parameter, schema }, input };
  });
  const editor = operation.requestBody && bodyEditor(resolve(operation.requestBody));
  const command = h("pre", { tabindex: 0, class: "command", "aria-label": "the call as a curl command" });
  const copied = h("span", { class: "hint", role: "status" });
  const stop = h("button", { type: "button", hidden: true, onclick: () => sending.abort() }, "Stop");
  const place = h("div", { class: "answer" });
  let sending = new AbortController();
  const refresh = () => {
    try {
      command.textContent = curlOf(request(operation, inputs, editor));
    } catch (error) {
      command.textContent = `# ${error.message}`;
    }
  };
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      copied.textContent = "copied";
    } catch { // there is no clipboard for a page that came over plain HTTP
      getSelection().selectAllChildren(command);
      copied.textContent = "selected: copy it with the keyboard";
    }
  };
  const submit = async (event) => {
    event.preventDefault();
    sending.abort();
    const mine = (sending = new AbortController());
    stop.hidden = false;
    try {
      await send(request(operation, inputs, editor), place, mine.signal);
    } catch (error) {
      place.replaceChildren(text(`This cannot be sent: ${error.message}`));
    }
    if (mine === sending) stop.hidden = true;
  };
  const groups = ["path", "query", "header", "cookie"].map((kind) => {
    const of = inputs.filter(({ parameter }) => parameter.in === kind);
    return of.length > 0 && [h("h4", null, `In the ${kind}`), of.map(({ input }) => input.node)];
  });
  const form = h("form", { onsubmit: submit, oninput: refresh, onchange: refresh }, groups, editor?.node,
    h("p", { class: "hint" }, inputs.length || editor ? "What is left empty is not sent." : "It takes nothing."),
    h("div", { class: "row" }, h("button", { class: "send" }, "Send"), stop,
      h("button", { type: "button", onclick: copy }, "Copy as curl"), copied));
  addEventListener("fnrun-key", refresh);
  refresh();
  return [h("h3", null, "Try it"), form, place, h("h4", null, "As a command"), command];
}

function responseView([status, given]) {
  const response = resolve(given);
  const headers = Object.entries(response.headers ?? {}).map(([name, one]) => [name, resolve(one)]);
  const contents = Object.entries(response.content ?? {});
  const kind = /^[23]/.test(status) ? "good" : "bad";
  return h("li", null, badge(status === "default" ? "other" : status, kind), " ", text(response.description),
    contents.map(([type, media]) => fold(`${type}: ${typeOf(media.schema)}`, () => [schemaView(media.schema ?? {}),
      examplesOf(media).map(([name, value]) => [h("h4", null, name), h("pre", { tabindex: 0 }, asText(value))])]
      .flat(Infinity).filter(Boolean))),
    headers.length > 0 && fold("Headers", () => h("ul", { class: "fields" }, headers.map(([name, one]) => h("li", null,
      h("code", null, name), " ", h("span", { class: "type" }, typeOf(one.schema)), " ", factsOf(one.schema ?? {}),
      text(one.description))))));
}

const SHOWN = new Set(["id", "path", "method", "parameters", "operationId", "summary", "description", "tags",
  "requestBody", "responses", "security", "deprecated"]);

function operationBody(operation) {
  const rest = Object.entries(operation).filter(([name]) => !SHOWN.has(name));
  const responses = Object.entries(operation.responses ?? {});
  return h("div", { class: "body" }, text(operation.description), h("p", { class: "hint" }, h("a", { href: linkTo(operation) },
    operation.id)), tryForm(operation), responses.length > 0 && [h("h3", null, "Answers"),
    h("ul", { class: "responses" }, responses.map(responseView))],
    rest.length > 0 && fold("More", () => h("pre", { tabindex: 0 }, json(Object.fromEntries(rest)))));
}

const linkTo = (operation) => `#${encodeURIComponent(operation.id)}`;

function operationView(operation) {
  const { words } = accessOf(operation);
  const label = [h("span", { class: `method ${operation.method.toLowerCase()}` }, operation.method),
    h("code", { class: "path" }, operation.path), h("span", { class: "summary" }, String(operation.summary ?? "")),
    operation.deprecated === true && badge("deprecated", "bad"), words !== "public" && badge(words, "key")];
  const node = fold(label, () => operationBody(operation), { class: "op" });
  node.addEventListener("toggle", () => node.open && history.replaceState(null, "", linkTo(operation)));
  return node;
}

// --- the list --------------------------------------------------------------------------------------------------------

const shownOperations = []; // { operation, node, words }

function showDocument() {
  const operations = operationsOf();
  const { title, version, description, summary } = doc.info ?? {};
  document.title = `${title ?? "API"} · docs`;
  byId("info").replaceChildren(h("h1", null, String(title ?? "API docs"), " ", version != null && badge(String(version))),
    ...[text(summary), text(description)].filter(Boolean),
    h("p", { class: "hint" }, downloadLink([json(doc)], "application/json", "openapi.json", "openapi.json")));
  const about = new Map((doc.tags ?? []).map((tag) => [tag.name, tag.description]));
  const tags = new Set([...about.keys(), ...operations.flatMap((one) => one.tags ?? []), null]);
  const sections = [...tags].map((tag) => {
    const nodes = operations.filter((one) => (tag === null ? !one.tags?.length : one.tags?.includes(tag))).map((operation) => {
      const node = operationView(operation);
      const words = [operation.id, operation.method, operation.path, operation.summary, operation.description, tag];
      shownOperations.push({ operation, node, words: words.join(" ").toLowerCase() });
      return node;
    });
    return nodes.length > 0 && h("section", null, h("h2", null, tag ?? "other"), text(about.get(tag)), nodes);
  });
  const empty = "No function has a route yet: give one @http.get in a file of functions/.";
  byId("main").replaceChildren(...(operations.length ? sections.filter(Boolean) : [text(empty)]));
  byId("tools").hidden = !operations.length;
  byId("key-form").hidden = !key && !operations.some((one) => accessOf(one).bearer);
  filter();
  followLink();
}

function filter() {
  const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const one of shownOperations) {
    one.node.hidden = !words.every((word) => one.words.includes(word));
    if (!one.node.hidden) count++;
  }
  for (const section of document.querySelectorAll("main section")) {
    section.hidden = !section.querySelector(".op:not([hidden])");
  }
  byId("count").textContent = words.length ? `${count} of ${shownOperations.length}` : `${count} in all`;
}

/** The operation's id in the address; as it stands where its percent signs encode nothing. */
function namedInAddress() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return location.hash.slice(1);
  }
}

/** Open the operation that the address names. */
function followLink() {
  const found = shownOperations.find(({ operation }) => operation.id === namedInAddress());
  if (!found) return;
  if (found.node.hidden) {
    byId("filter").value = "";
    filter();
  }
  found.node.open = true;
  found.node.firstElementChild.focus();
  found.node.scrollIntoView();
}

// --- the key ---------------------------------------------------------------------------------------------------------

const STORED = "fnrun.key"; // in sessionStorage alone: gone with the tab, and in no address
let key = "";

function useKey(value) {
  key = value;
  if (value) sessionStorage.setItem(STORED, value);
  else sessionStorage.removeItem(STORED);
  byId("forget").hidden = !value;
  byId("key").value = "";
  byId("key-said").textContent = value
    ? "A key is set, for this tab only. It is sent to what is marked “key”." : "Sent to what is marked “key”.";
  dispatchEvent(new Event("fnrun-key"));
}

/** Fetch the document with a key, or none, and show it; else say what keeps it from being shown. */
async function load(given = sessionStorage.getItem(STORED) ?? "") {
  const answer = await fetch("openapi.json", { headers: given ? { authorization: `Bearer ${given}` } : {} });
  const content = await answer.json();
  document.body.classList.toggle("locked", answer.status === 401);
  if (answer.ok) {
    useKey(given);
    if (shownOperations.length) return;
    doc = content;
    showDocument();
    return;
  }
  if (answer.status === 401 && given === sessionStorage.getItem(STORED)) useKey("");
  const wrong = content.detail ?? content.title ?? answer.statusText;
  byId("key-said").textContent = answer.status === 401 && !given ? "These docs are open to who has a key." : wrong;
  byId("said")?.replaceChildren(answer.status === 401 ? "" : `The document cannot be had: ${answer.status}, ${wrong}`);
  byId("key").focus();
}

const loadOrSay = (given) => load(given).catch((error) => {
  byId("key-said").textContent = `The document cannot be shown: ${error.message}`;
  byId("said")?.replaceChildren("");
});

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault(); // nothing is submitted: the key would be in the address
  const given = byId("key").value.trim();
  if (given) loadOrSay(given);
});
byId("forget").addEventListener("click", () => {
  useKey("");
  location.reload();
});
byId("filter").addEventListener("input", filter);
addEventListener("hashchange", followLink);
loadOrSay();
