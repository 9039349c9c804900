// The "Try it" form: its inputs, the call made of them, as fetch and as curl, and what comes back.
"use strict";

// --- the form --------------------------------------------------------------------------------------------------------

/** One labelled input. `read()`: its values as text or files; none when it is empty, and then it is not sent. */
function field(name, schema, { required = false, must = false, description, given, note } = {}) {
  const whole = resolve(schema);
  const inner = resolve(innermost(schema));
  const several = [whole.type].flat().includes("array") || choices(whole).some((one) => resolve(one).type === "array");
  const options = inner.enum ?? ("const" in inner ? [inner.const] : inner.type === "boolean" ? [true, false] : null);
  const start = given === undefined ? "" : several && Array.isArray(given) ? given.map(asText).join("\n") : asText(given);
  const id = newId();
  const common = { id, name, required: must, "aria-describedby": `${id}-about` };
  let input;
  if (isFile(inner)) input = h("input", { ...common, type: "file", multiple: several });
  else if (options && !several) {
    input = h("select", common, ["", ...options].map((one) => h("option", null, asText(one))));
    input.value = start;
  } else if (several || inner.properties || inner.type === "object") {
    input = h("textarea", { ...common, rows: 2, spellcheck: "false", placeholder: several ? "one a line" : "JSON" }, start);
  } else input = h("input", { ...common, value: start, autocomplete: "off", spellcheck: "false" });
  const node = h("div", { class: "field" },
    h("div", null, h("label", { for: id }, name), " ", h("span", { class: "type" }, typeOf(schema)), " ",
      required && badge("required", "required"), factsOf(schema)),
    h("div", { id: `${id}-about` }, text(description ?? whole.description), note && h("p", { class: "hint" }, note)), input);
  const read = () => {
    if (input.type === "file") return [...input.files];
    return several ? input.value.split("\n").filter(Boolean) : input.value ? [input.value] : [];
  };
  return { name, node, read };
}

/** The fields of a form body: their `read()` gives [name, text or file] pairs. */
function formEditor(schema, example) {
  const fields = partsOf(schema).map(([name, one, required]) =>
    field(name, one, { required, given: example?.[name] ?? resolve(one).default }));
  const read = () => fields.flatMap((one) => one.read().map((value) => [one.name, value]));
  return { nodes: fields.map((one) => one.node), read };
}

/** A text area, with the examples to choose from; for what is not JSON also a file. `read()`: text, a file or null. */
function textEditor(type, media) {
  const isJson = /[/+]json\b/.test(type);
  const examples = examplesOf(media);
  const start = examples[0]?.[1] ?? (isJson && "schema" in media ? sample(media.schema) : resolve(media.schema).example ?? "");
  const [id, choiceId, fileId] = [newId(), newId(), newId()];
  const said = h("p", { class: "hint", role: "status" });
  const area = h("textarea", { id, rows: 8, spellcheck: "false", oninput: check }, asText(start));
  area.rows = Math.min(16, Math.max(3, area.value.split("\n").length + 1));
  function check() {
    said.textContent = "";
    if (isJson && area.value) {
      try {
        JSON.parse(area.value);
      } catch (error) {
        said.textContent = `This is not JSON: ${error.message}`;
      }
    }
  }
  const choose = h("select", { id: choiceId, onchange: () => {
    area.value = asText(examples[choose.selectedIndex][1]);
    check();
  } }, examples.map(([name]) => h("option", null, name)));
  const file = h("input", { id: fileId, type: "file" });
  return {
    nodes: [examples.length > 1 && h("div", { class: "field" }, h("label", { for: choiceId }, "Example"), choose),
      h("div", { class: "field" }, h("label", { for: id }, `Body (${type})`), area, said),
      !isJson && h("div", { class: "field" }, h("label", { for: fileId }, "or a file"), file)],
    read: () => file.files[0] ?? (area.value || null),
  };
}

/** The editor of a request body. `read()`: what `request` takes as a body, or null. */
function bodyEditor(requestBody) {
  const contents = Object.entries(requestBody.content ?? {});
  const id = newId();
  const place = h("div");
  let current = () => null;
  const select = h("select", { id, onchange: show }, contents.map(([type]) => h("option", null, type)));
  function show() {
    const [type, media] = contents[select.selectedIndex];
    const isForm = type === "multipart/form-data" || type === "application/x-www-form-urlencoded";
    const example = examplesOf(media)[0]?.[1] ?? resolve(media.schema).example;
    const editor = isForm && partsOf(media.schema).length ? formEditor(media.schema, example) : textEditor(type, media);
    const sent = field("Content-Type", { type: "string" }, { given: "application/octet-stream" });
    const anyType = type.includes("*"); // a range: the sender says which
    place.replaceChildren(...editor.nodes.flat().filter(Boolean), ...(anyType ? [sent.node] : []),
      fold("Schema", () => schemaView(media.schema).filter(Boolean)));
    current = () => {
      const content = editor.read();
      const empty = content === null || (Array.isArray(content) && !content.length);
      return empty ? null : { type: anyType ? sent.read()[0] ?? "" : type, content };
    };
  }
  if (contents.length) show();
  const about = [h("h4", null, "Body ", badge(requestBody.required ? "required" : "optional",
    requestBody.required ? "required" : "")), text(requestBody.description),
    contents.length > 1 && h("div", { class: "field" }, h("label", { for: id }, "Content type"), select)];
  return { node: h("div", null, about, place), read: () => current() };
}

// --- the call --------------------------------------------------------------------------------------------------------

/** The address that paths begin at: the document's server if that is here, else where this page is mounted. */
function baseUrl() {
  const here = new URL("../", location.href);
  const said = doc.servers?.[0]?.url;
  const url = said && !said.includes("{") ? new URL(said, here) : here;
  return (url.origin === here.origin ? url : here).href.replace(/\/$/, "");
}

/** Name and value pairs of one query parameter, as its style says. */
function queryPairs({ name, style, explode, schema }, values) {
  if (style === "deepObject" || resolve(innermost(schema)).type === "object") {
    return Object.entries(JSON.parse(values[0])).map(([key, value]) =>
      [style === "deepObject" ? `${name}[${key}]` : key, asText(value)]);
  }
  const mark = { spaceDelimited: " ", pipeDelimited: "|" }[style] ?? ",";
  return explode === false ? [[name, values.join(mark)]] : values.map((value) => [name, value]);
}

/** What is to be sent: method, url, headers, cookies, body as the editor gave it. */
function request(operation, inputs, editor) {
  const call = { method: operation.method, headers: [], cookies: [], body: editor?.read() ?? null, url: operation.path };
  const query = [];
  for (const { parameter, input } of inputs) {
    const values = input.read();
    if (!values.length) continue;
    const { name } = parameter;
    if (parameter.in === "path") {
      call.url = call.url.replaceAll(`{${name}}`, () => values.map(encodeURIComponent).join(","));
    } else if (parameter.in === "query") {
      query.push(...queryPairs(parameter, values).map((pair) => pair.map(encodeURIComponent).join("=")));
    } else if (parameter.in === "header") call.headers.push([name, values.join(",")]);
    else if (parameter.in === "cookie") call.cookies.push([name, values.join(",")]);
  }
  call.url = baseUrl() + call.url + (query.length ? `?${query.join("&")}` : "");
  call.withKey = accessOf(operation).bearer && key !== "";
  return call;
}

const shell = (word) => `'${word.replaceAll("'", `'\\''`)}'`;

/** The call as a command for a POSIX shell. The key stays out of it: it would end up in a history or a chat. */
function curlOf({ method, url, headers, cookies, body, withKey }) {
  const words = [["curl", method === "HEAD" ? "-I" : method !== "GET" && `-X ${method}`, shell(url)].filter(Boolean).join(" ")];
  if (withKey) words.push('-H "Authorization: Bearer $FNRUN_KEY"');
  for (const [name, value] of headers) words.push(`-H ${shell(`${name}: ${value}`)}`);
  for (const [name, value] of cookies) words.push(`-b ${shell(`${name}=${value}`)}`);
  if (body && Array.isArray(body.content)) {
    const multipart = body.type === "multipart/form-data";
    for (const [name, value] of body.content) {
      if (value instanceof File) words.push(`-F ${shell(`${name}=@${value.name}`)}`);
      else words.push(`${multipart ? "--form-string" : "--data-urlencode"} ${shell(`${name}=${value}`)}`);
    }
  } else if (body) {
    if (body.type) words.push(`-H ${shell(`Content-Type: ${body.type}`)}`);
    words.push(body.content instanceof File ? `--data-binary ${shell(`@${body.content.name}`)}` : `--data-raw ${shell(body.content)}`);
  }
  return words.join(" \\\n  ");
}

/** The call as fetch wants it. Throws for what no header can hold. */
function fetchable({ method, url, headers, body, withKey }) {
  const sent = new Headers(headers);
  if (withKey) sent.set("authorization", `Bearer ${key}`);
  let content = body?.content;
  if (Array.isArray(content) && body.type === "multipart/form-data") {
    const form = new FormData();
    for (const [name, value] of content) form.append(name, value);
    content = form; // fetch names the boundary in the content type
  } else if (Array.isArray(content)) content = new URLSearchParams(content);
  else if (body?.type) sent.set("content-type", body.type);
  return [url, { method, headers: sent, body: method === "GET" || method === "HEAD" ? undefined : content }];
}

/** Whether browsers keep a page from setting a header. */
const isWithheld = (name) => {
  try {
    return !new Request(location.href, { headers: { [name]: "x" } }).headers.has(name);
  } catch {
    return false; // no header's name at all: said when it is sent
  }
};

// --- the answer ------------------------------------------------------------------------------------------------------

const SHOWN_CHARACTERS = 500_000;
const isText = (type) => /^text\/|[/+](json|xml|yaml|(x-)?ndjson|jsonl|javascript|x-www-form-urlencoded)\b/i.test(type);
const sizeOf = (bytes) => (bytes < 10_000 ? `${bytes} bytes` : `${(bytes / 1000).toLocaleString("en", { maximumFractionDigits: 1 })} kB`);

/** JSON, one thing a line. By its tokens: parsed and written again, long numbers would lose digits. */
function pretty(source) {
  JSON.parse(source);
  let [depth, fresh, out] = [0, false, ""];
  const line = () => `\n${"  ".repeat(depth)}`;
  for (const [token] of source.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/g)) {
    const closes = token === "}" || token === "]";
    if (closes) depth--;
    if (closes !== fresh) out += line();
    fresh = token === "{" || token === "[";
    if (fresh) depth++;
    out += token === ":" ? ": " : token;
    if (token === ",") out += line();
  }
  return out;
}

const downloadLink = (parts, type, name, label) =>
  h("a", { href: URL.createObjectURL(new Blob(parts, { type })), download: name }, label);

/** Send the call and show what comes back in `place`, part by part. */
async function send(call, place, signal) {
  const began = performance.now();
  const took = () => `${Math.round(performance.now() - began)} ms`;
  const verdict = h("span", { role: "status" }, "Sending …"); // read out when it changes; how far it is, is not
  const progress = h("span");
  place.replaceChildren(h("h4", null, "Answer"), h("p", { class: "status" }, verdict, " ", progress));
  let [answered, received] = [false, 0];
  try {
    const [url, options] = fetchable(call);
    const answer = await fetch(url, { ...options, signal });
    const first = took();
    answered = true;
    verdict.replaceChildren(badge(`${answer.status} ${answer.statusText}`.trim(), answer.ok ? "good" : "bad"));
    progress.textContent = `${first}, receiving …`;
    const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
    place.append(answer.redirected ? text(`after a redirect to ${answer.url}`) : "",
      h("details", null, h("summary", null, "Headers"), h("pre", { tabindex: 0 }, headers)));
    await showBody(answer, place, (size) => {
      received = size;
      progress.textContent = `${first}, ${sizeOf(size)} so far …`;
    });
    progress.textContent = `${took()}, ${sizeOf(received)}`;
  } catch (error) {
    const wrong = signal.aborted ? "stopped" : `${answered ? "the connection broke" : "no answer"}: ${error.message}`;
    if (!answered) verdict.textContent = "";
    verdict.append(badge(wrong, signal.aborted ? "" : "bad"));
    progress.textContent = `after ${took()}`;
  }
}

async function showBody(answer, place, onSize) {
  const type = answer.headers.get("content-type") ?? "";
  const asWords = isText(type);
  const output = h("pre", { class: "output", tabindex: 0, "aria-label": "body of the answer" });
  const decoder = new TextDecoder();
  const parts = [];
  let [size, shown] = [0, ""];
  const reader = answer.body?.getReader();
  for (let part = await reader?.read(); part && !part.done; part = await reader.read()) {
    size += part.value.length;
    onSize(size);
    if (!asWords) parts.push(part.value);
    else if (shown.length < SHOWN_CHARACTERS) {
      const more = decoder.decode(part.value, { stream: true });
      shown += more;
      if (!output.isConnected) place.append(output);
      output.append(more);
    }
  }
  if (!size) place.append(h("p", { class: "hint" }, "no body"));
  else if (!asWords) {
    const name = new URL(answer.url).pathname.split("/").pop() || "body";
    place.append(h("p", null, `${type || "no content type"}, ${sizeOf(size)}: `, downloadLink(parts, type, name, "download")));
  } else if (shown.length >= SHOWN_CHARACTERS) place.append(h("p", { class: "hint" }, "The rest is not shown."));
  else if (/[/+]json\b/.test(type)) {
    try {
      output.textContent = pretty(shown);
    } catch (error) {
      place.append(h("p", { class: "hint" }, `This is not JSON: ${error.message}`));
    }
  }
}
