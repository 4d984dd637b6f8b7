// What a plugin's user may set: described once, read from JSON, and shown as JSON Schema.

const BRAND = Symbol("setting");

function setting(options, schema, read) {
  const { doc, optional, ...rest } = options ?? {};
  return { [BRAND]: true, doc, optional: optional === true || "default" in rest, default: rest.default, schema, read };
}

function at(place, problem) {
  return new Error(place ? `${place}: ${problem}` : problem);
}

function shown(value) {
  const text = JSON.stringify(value);
  return text.length <= 40 ? text : `${text.slice(0, 40)}…`;
}

function expect(is, what) {
  return (value, place) => {
    if (!is(value)) throw at(place, `expected ${what}, got ${shown(value)}`);
    return value;
  };
}

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const inside = (place, key) => (place ? `${place}.${key}` : key);

function oneOf(names) {
  const quoted = names.map((name) => `\`${name}\``).join(", ");
  return names.length === 1 ? quoted : `one of ${quoted}`;
}

/** The types of settings. Each takes `{ doc, default, optional }`. */
export const s = Object.freeze({
  text: (options) =>
    setting(options, { type: "string" }, expect((value) => typeof value === "string", "text")),
  integer: (options) => setting(options, { type: "integer" }, expect(Number.isSafeInteger, "a whole number")),
  number: (options) =>
    setting(options, { type: "number" }, expect((value) => typeof value === "number", "a number")),
  boolean: (options) =>
    setting(options, { type: "boolean" }, expect((value) => typeof value === "boolean", "true or false")),
  anything: (options) => setting(options, { $comment: "anything" }, (value) => value),
  choice: (words, options) =>
    setting(
      options,
      { oneOf: words.map((word) => ({ const: word })) },
      expect((value) => words.includes(value), oneOf(words)),
    ),
  list: (of, options) =>
    setting(options, { type: "array", items: of.schema }, (value, place) =>
      expect(Array.isArray, "a list")(value, place).map((item, i) => of.read(item, `${place}[${i}]`)),
    ),
  map: (of, options) =>
    setting(options, { type: "object", additionalProperties: of.schema }, (value, place) => {
      const entries = Object.entries(expect(isObject, "an object")(value, place));
      return Object.fromEntries(entries.map(([key, item]) => [key, of.read(item, inside(place, key))]));
    }),
  object: (properties, options) => setting(options, objectSchema(properties), (value, place) => read(properties, value, place)),
});

function read(properties, value, place) {
  expect(isObject, "an object")(value, place);
  const names = Object.keys(properties);
  for (const key of Object.keys(value)) {
    if (!Object.hasOwn(properties, key)) {
      const expected = names.length > 0 ? `expected ${oneOf(names)}` : "there are no settings";
      throw at(place, `unknown field \`${key}\`, ${expected}`);
    }
  }
  const settings = {};
  for (const [name, setting] of Object.entries(properties)) {
    const given = Object.hasOwn(value, name) ? value[name] : undefined;
    if (given !== undefined && !(given === null && setting.optional)) {
      settings[name] = setting.read(given, inside(place, name));
    } else if (setting.optional) {
      settings[name] = setting.default;
    } else {
      throw at(place, `missing field \`${name}\``);
    }
  }
  return settings;
}

function objectSchema(properties) {
  const described = Object.entries(properties).map(([name, { doc, schema, optional, default: value }]) => {
    const type = optional && value === undefined ? { anyOf: [schema, { type: "null" }] } : schema;
    return [name, { ...(doc ? { description: doc } : {}), ...type }];
  });
  const required = Object.keys(properties).filter((name) => !properties[name].optional);
  return { type: "object", properties: Object.fromEntries(described), required, additionalProperties: false };
}

/** What reads the settings of a plugin, and their schema. */
export function settingsReader(properties) {
  for (const [name, setting] of Object.entries(properties)) {
    if (setting?.[BRAND] !== true) throw new Error(`settings.${name}: use one of s.text(), s.integer(), s.choice([…]), …`);
  }
  return {
    schema: objectSchema(properties),
    read: (text) => {
      let value;
      try {
        value = JSON.parse(text);
      } catch (error) {
        throw new Error(`the settings are not JSON: ${error.message}`);
      }
      return read(properties, value, "");
    },
  };
}
