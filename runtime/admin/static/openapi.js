// Shows the OpenAPI document beside this page and calls what it describes.
//
// The document is made of authors' docstrings and types, so nothing of it becomes markup, an address or a style: it goes
// through h(), as text. Nothing is asked of it but what OpenAPI 3.1 says; what is not known here is shown as JSON.
"use strict";

// --- making elements -------------------------------------------------------------------------------------------------

/** An element. Attributes: "on..." are listeners, false and null are left out. Strings among the children are text. */
function h(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return node;
}

const byId = (id) => document.getElementById(id);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const json = (value) => JSON.stringify(value, null, 2) ?? "";
const text = (value) => value && h("p", { class: "text" }, String(value));
const badge = (word, kind = "") => h("span", { class: `badge ${kind}` }, word);
let lastId = 0;
const newId = () => `f${++lastId}`;

/** Closed details whose content is made when first opened: a document may have thousands of fields, or endless ones. */
function fold(label, make, attributes) {
  let made = false;
  const node = h("details", attributes, h("summary", null, label));
  node.addEventListener("toggle", () => {
    if (!node.open || made) return;
    made = true;
    try {
      node.append(...[make()].flat());
    } catch (error) {
      node.append(text(`This cannot be shown: ${error.message}`));
    }
  });
  return node;
}

// --- the document ----------------------------------------------------------------------------------------------------

let doc = {};
const METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace", "query"];

/** A node with its references followed; what stands beside one wins. As it is, where one leads nowhere. */
function resolve(node) {
  for (let hops = 0; typeof node?.$ref === "string" && hops < 20; hops++) {
    const { $ref, ...beside } = node;
    let found = $ref.startsWith("#/") ? doc : undefined;
    for (const part of $ref.slice(2).split("/")) {
      found = found?.[decodeURIComponent(part).replaceAll("~1", "/").replaceAll("~0", "~")];
    }
    if (!isObject(found)) return node;
    node = { ...found, ...beside };
  }
  return isObject(node) ? node : {}; // a schema may be true or false
}

/** Every operation: its own keys and what it has from its path. */
function operationsOf() {
  return Object.entries(doc.paths ?? {}).flatMap(([path, given]) => {
    const item = resolve(given);
    return METHODS.filter((method) => isObject(item[method])).map((method) => {
      const own = item[method];
      const parameters = new Map();
      for (const one of [...(item.parameters ?? []), ...(own.parameters ?? [])].map(resolve)) {
        parameters.set(`${one.in} ${one.name}`, one); // the operation's own replace those of its path
      }
      const id = own.operationId ?? `${method} ${path}`;
      return { ...own, id, path, method: method.toUpperCase(), parameters: [...parameters.values()] };
    });
  });
}

/** Who may call: `words` to show, `bearer` where a key as this page sends it is one of the ways. */
function accessOf(operation) {
  const ways = operation.security ?? doc.security ?? [];
  if (!ways.some((way) => Object.keys(way).length)) return { words: "public", bearer: false };
  const schemes = ways.flatMap(Object.keys).map((name) => [name, resolve(doc.components?.securitySchemes?.[name])]);
  const bearer = schemes.some(([, scheme]) => scheme.type === "http" && /^bearer$/i.test(scheme.scheme));
  const words = bearer ? "key" : [...new Set(schemes.map(([name]) => name))].join(", ");
  return { words: ways.some((way) => !Object.keys(way).length) ? `${words}, or none` : words, bearer };
}

// --- schemas ---------------------------------------------------------------------------------------------------------

const refName = (ref) => ref.split("/").pop();
const choices = (schema) => (schema.anyOf ?? schema.oneOf ?? []).filter((one) => one?.type !== "null");
const isFile = (schema) => schema.format === "binary" || (schema.type === "string" && "contentMediaType" in schema);

/** A schema's type in a few words. */
function typeOf(schema, depth = 0) {
  if (schema === false) return "nothing";
  if (!isObject(schema) || depth > 4) return "anything";
  if (schema.$ref) return refName(schema.$ref);
  const several = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (several) return several.map((one) => typeOf(one, depth + 1)).join(schema.allOf === several ? " & " : " | ");
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (isFile(schema)) return "file";
  const types = [schema.type ?? (schema.properties ? "object" : schema.items ? "array" : "anything")].flat();
  const word = (type) => {
    if (type === "array" && schema.items) return `array of ${typeOf(schema.items, depth + 1)}`;
    return type === "string" && schema.format ? schema.format : type;
  };
  return types.map(word).join(" | ");
}

const TOLD = new Set(["$ref", "type", "format", "title", "description", "properties", "required", "items", "prefixItems",
  "anyOf", "oneOf", "allOf", "enum", "const", "additionalProperties", "patternProperties", "discriminator", "example"]);
const WORDS = { minimum: "≥", maximum: "≤", exclusiveMinimum: ">", exclusiveMaximum: "<", minLength: "length ≥",
  maxLength: "length ≤", minItems: "items ≥", maxItems: "items ≤", multipleOf: "a multiple of", examples: "for example",
  pattern: "matches", default: "default" };

/** Limits, default and all else a schema says, one badge each. */
function factsOf(schema) {
  const whole = resolve(schema);
  const said = Object.entries(whole).filter(([name]) => !TOLD.has(name) && !name.startsWith("x-"));
  const value = (name, given) =>
    name === "examples" && Array.isArray(given) ? given.map((one) => JSON.stringify(one)).join(", ")
    : name === "pattern" ? given : JSON.stringify(given);
  const own = said.map(([name, given]) => badge(given === true ? name : `${WORDS[name] ?? name} ${value(name, given)}`));
  const inner = whole.items ?? (choices(whole).length === 1 ? choices(whole)[0] : null);
  return isObject(inner) && !inner.$ref ? [...own, ...factsOf(inner)] : own;
}

/** What the fields of a schema are fields of: past "array of" and "or null". */
function innermost(schema, depth = 0) {
  const whole = resolve(schema);
  if (depth < 9 && isObject(whole.items) && !whole.properties) return innermost(whole.items, depth + 1);
  if (depth < 9 && choices(whole).length === 1) return innermost(choices(whole)[0], depth + 1);
  return schema;
}

/** The fields of a schema: [name, schema, required]. */
function partsOf(schema, depth = 0) {
  const whole = resolve(schema);
  if (depth > 9 || !isObject(whole)) return [];
  const required = whole.required ?? [];
  const found = Object.entries(whole.properties ?? {}).map(([name, one]) => [name, one, required.includes(name)]);
  for (const [name, one] of Object.entries(whole.patternProperties ?? {})) found.push([`/${name}/`, one, false]);
  if (isObject(whole.additionalProperties)) found.push(["any other name", whole.additionalProperties, false]);
  (whole.prefixItems ?? []).forEach((one, index) => found.push([`[${index}]`, one, true]));
  for (const one of whole.allOf ?? []) found.push(...partsOf(one, depth + 1));
  const several = choices(whole);
  if (several.length > 1 && several.some((one) => partsOf(innermost(one), depth + 1).length)) {
    several.forEach((one, index) => found.push([`choice ${index + 1}`, one, false]));
  }
  return found;
}

/** A list of the fields of a schema; `seen`: the references on the way here, so that a recursive one ends. */
function fieldsOf(schema, seen = []) {
  const inner = innermost(schema);
  const inside = inner?.$ref ? [...seen, inner.$ref] : seen;
  return h("ul", { class: "fields" }, partsOf(inner).map(([name, one, required]) => {
    const about = resolve(one);
    const next = innermost(one);
    const ends = inside.includes(next?.$ref);
    const nested = !ends && partsOf(next).length > 0;
    return h("li", null, h("code", null, name), " ", h("span", { class: "type" }, typeOf(one)), " ",
      required && badge("required", "required"), factsOf(one), ends && badge("↺ as above"), text(about.description),
      nested && fold("fields", () => fieldsOf(one, inside)));
  }));
}

/** A schema: its type, limits, description and fields. */
function schemaView(schema) {
  const about = resolve(schema);
  return [h("p", null, h("span", { class: "type" }, typeOf(schema)), " ", factsOf(schema)), text(about.description),
    partsOf(innermost(schema)).length > 0 && fieldsOf(schema)];
}

const FORMATS = { "date-time": "2030-01-01T12:00:00Z", date: "2030-01-01", time: "12:00:00Z", duration: "PT1H",
  uuid: "00000000-0000-4000-8000-000000000000", email: "ada@example.com", uri: "https://example.com", byte: "aGVsbG8=" };

/** A value that fits a schema as far as it tells; undefined where it would go on for ever. */
function sample(schema, seen = []) {
  if (!isObject(schema)) return null;
  if (seen.includes(schema.$ref) || seen.length > 6) return undefined;
  const inside = schema.$ref ? [...seen, schema.$ref] : seen;
  const whole = resolve(schema);
  const given = [whole.example, whole.examples?.[0], whole.default, whole.const, whole.enum?.[0]];
  const first = given.find((one) => one !== undefined);
  if (first !== undefined) return first;
  const several = whole.anyOf ?? whole.oneOf;
  if (several) return several.map((one) => sample(one, inside)).find((one) => one != null) ?? null;
  const type = [whole.type ?? (whole.properties || whole.allOf ? "object" : whole.items ? "array" : "null")].flat()[0];
  if (type === "object") {
    const fields = Object.entries(whole.properties ?? {}).map(([name, one]) => [name, sample(one, inside)]);
    return Object.assign({}, ...(whole.allOf ?? []).map((one) => sample(one, inside)),
      Object.fromEntries(fields.filter(([, value]) => value !== undefined)));
  }
  if (type === "array") {
    return [...(whole.prefixItems ?? []), ...(isObject(whole.items) ? [whole.items] : [])]
      .map((one) => sample(one, inside)).filter((one) => one !== undefined);
  }
  if (type === "string") return (FORMATS[whole.format] ?? "string").padEnd(whole.minLength ?? 0, "x").slice(0, whole.maxLength);
  if (type === "integer" || type === "number") {
    const least = whole.minimum ?? (whole.exclusiveMinimum ?? -1) + 1;
    const number = Math.min(least, whole.maximum ?? least, (whole.exclusiveMaximum ?? Infinity) - 1);
    return whole.multipleOf ? Math.ceil(number / whole.multipleOf) * whole.multipleOf : number;
  }
  return type === "boolean" ? false : null;
}

/** The examples of a parameter or of a body: [name, value]. */
function examplesOf(given) {
  const named = Object.entries(given.examples ?? {}).map(([name, one]) => [name, resolve(one)]);
  return [...("example" in given ? [["example", given.example]] : []),
    ...named.filter(([, one]) => "value" in one).map(([name, one]) => [one.summary ?? name, one.value])];
}

const asText = (value) => (typeof value === "string" ? value : json(value));
