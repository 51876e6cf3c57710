// Shows openapi.json to people. Text only ever becomes text: nothing of the description is parsed as HTML.

const METHODS = ["get", "post", "delete", "put", "patch"];

/** An element with attributes and children; strings become text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Text in which `backticks` mark code. */
function prose(text, name = "p") {
  const parts = (text ?? "").split("`");
  return make(name, {}, ...parts.map((part, index) => (index % 2 ? make("code", {}, part) : part)));
}

function resolve(api, schema) {
  while (schema?.$ref) {
    const target = schema.$ref.split("/").slice(1).reduce((value, key) => value[key], api);
    schema = { ...target, ...schema, $ref: target.$ref };
  }
  return schema ?? {};
}

/** What a value is, in a few words. */
function kind(api, schema) {
  schema = resolve(api, schema);
  if (schema.enum) return schema.enum.join(" · ");
  if (schema.anyOf) return schema.anyOf.map((option) => kind(api, option)).join(" or ");
  if (isList(schema)) return `list of ${kind(api, schema.items)}`;
  const words = [schema.format === "binary" ? "file" : [schema.type ?? "any"].flat().join(" or ")];
  if (schema.format === "uuid") words.push("UUID");
  if (schema.minimum !== undefined) words.push(`≥ ${schema.minimum}`);
  if (schema.maximum !== undefined) words.push(`≤ ${schema.maximum}`);
  if (schema.minLength !== undefined) words.push(`at least ${schema.minLength} characters`);
  if (schema.maxLength !== undefined) words.push(`at most ${schema.maxLength} characters`);
  if (schema.default !== undefined) words.push(`default ${schema.default}`);
  return words.join(", ");
}

/** The object inside a value: of a list its items. */
function inner(api, schema) {
  schema = resolve(api, schema);
  return isList(schema) ? inner(api, schema.items) : schema;
}

function isList(schema) {
  return [schema.type].flat().includes("array");
}

function row(api, name, schema, required, about) {
  const nested = inner(api, schema);
  return make(
    "tr", {},
    make("td", {}, make("code", {}, name), required ? make("span", { class: "must" }, "required") : null),
    make(
      "td", {},
      make("span", { class: "kind" }, kind(api, schema)),
      about ? prose(about) : null,
      nested.properties ? make("details", {}, make("summary", {}, "fields"), fields(api, nested)) : null,
    ),
  );
}

function fields(api, schema) {
  const required = new Set(schema.required);
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) =>
    row(api, name, field, required.has(name) && schema.additionalProperties === false, field.description));
  return make("table", {}, ...rows);
}

/** A body: its fields, of each kind that it may have. */
function body(api, content) {
  return Object.entries(content ?? {}).flatMap(([type, { schema }]) => {
    const whole = resolve(api, schema);
    const kinds = (whole.anyOf ?? [whole]).map((option) => resolve(api, option)).filter((option) => option.properties);
    return [make("p", { class: "kind" }, type), ...kinds.flatMap((each) => [prose(each.description), fields(api, each)])];
  });
}

/** How to call it, from a shell. */
function curl(api, method, path, operation) {
  const words = ["curl"];
  if (method !== "get" && !operation.requestBody) words.push(`-X ${method.toUpperCase()}`);
  if (!operation.security.some((each) => !Object.keys(each).length)) words.push('-H "Authorization: Bearer $DOCV2_API_KEY"');
  for (const [type, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    const { required = [] } = resolve(api, schema);
    if (type === "application/json") {
      words.push(`--json '${JSON.stringify(Object.fromEntries(required.map((name) => [name, "…"])))}'`);
    } else {
      words.push(...required.map((name) => `-F ${name === "file" ? "file=@document.pdf" : `"${name}=…"`}`));
    }
  }
  return `${words.join(" \\\n  ")} \\\n  ${new URL(path.slice(1), document.baseURI).href.replaceAll("%7B", "{").replaceAll("%7D", "}")}`;
}

function section(api, method, path, operation) {
  const open = operation.security.some((each) => !Object.keys(each).length);
  const { 200: success, ...failures } = operation.responses;
  const parameters = operation.parameters ?? [];
  return make(
    "section", { id: operation.operationId },
    make("h2", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), path,
      open ? make("span", { class: "open" }, "no credentials needed") : null),
    prose(`${operation.summary}.`),
    operation.description ? prose(operation.description) : null,
    make("pre", {}, make("code", {}, curl(api, method, path, operation))),
    ...(parameters.length ? [make("h3", {}, "Parameters"), make("table", {}, ...parameters.map((each) =>
      row(api, each.name, each.schema, each.required, `${each.description} (${each.in})`)))] : []),
    ...(operation.requestBody ? [make("h3", {}, "Body"), ...body(api, operation.requestBody.content)] : []),
    make("h3", {}, "Answer"), ...body(api, success.content),
    make("h3", {}, "Refusals"),
    make("table", {}, ...Object.entries(failures).map(([status, { description }]) =>
      make("tr", {}, make("td", {}, make("code", {}, status)), make("td", {}, prose(description))))),
  );
}

function show(api) {
  const index = document.getElementById("index");
  const content = document.getElementById("content");
  index.append(make("strong", {}, api.info.title), make("a", { href: "openapi.json" }, "openapi.json"));
  content.replaceChildren(
    make("h1", {}, api.info.title, make("small", {}, api.info.version)),
    ...api.info.description.split("\n\n").map((text) => prose(text)),
  );
  for (const { name } of api.tags) {
    index.append(make("h2", {}, name));
    for (const [path, methods] of Object.entries(api.paths)) {
      for (const method of METHODS.filter((each) => methods[each]?.tags.includes(name))) {
        const operation = methods[method];
        index.append(make("a", { href: `#${operation.operationId}` },
          make("span", { class: `method ${method}` }, method.toUpperCase()), path.replace(/^\/api\/v\d/, "")));
        content.append(section(api, method, path, operation));
      }
    }
  }
  if (location.hash) document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

try {
  const response = await fetch("openapi.json");
  if (!response.ok) throw new Error(`the server answered ${response.status}`);
  show(await response.json());
} catch (error) {
  document.getElementById("content").replaceChildren(prose(`The description of the API cannot be shown: ${error.message}.`));
}
