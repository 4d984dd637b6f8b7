//! A plugin's settings for people: the JSON Schema that the plugin has of them, as a table.

use serde_json::Value;

/// How deep a schema is followed: it is the plugin's word.
const DEPTH: usize = 8;

/// Settings that are named, and words of a choice.
const ROWS: usize = 1000;
const WORDS: usize = 50;

/// Words of a choice that are told in one line.
const IN_LINE: usize = 5;

/// A setting.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// How many objects it is in.
    pub depth: usize,
    /// Its key.
    pub name: String,
    /// What it may be.
    pub kind: String,
    /// Whether the settings are refused without it.
    pub is_required: bool,
    /// What it is for.
    pub description: String,
}

/// The settings that a schema describes, each before those that are in it.
pub fn describe(schema: &Value) -> Vec<Row> {
    let mut rows = Vec::new();
    add(schema, schema, 0, &mut rows);
    rows
}

fn add(root: &Value, schema: &Value, depth: usize, rows: &mut Vec<Row>) {
    let schema = inner(root, schema);
    let Some(properties) = schema["properties"].as_object().filter(|_| depth < DEPTH) else { return };
    let required = schema["required"].as_array();
    for (name, property) in properties {
        if rows.len() == ROWS {
            return;
        }
        let default = property.get("default").map_or(String::new(), |default| format!(", {default} if not given"));
        rows.push(Row {
            depth,
            name: name.clone(),
            kind: kind(root, property, 0) + &default,
            is_required: required.is_some_and(|required| required.iter().any(|key| key == name)),
            description: description(root, property),
        });
        add_words(inner(root, property), depth + 1, rows);
        add(root, property, depth + 1, rows);
        // What lists and maps have in them.
        for part in ["items", "additionalProperties"] {
            if let Some(part) = inner(root, property).get(part) {
                add(root, part, depth + 1, rows);
            }
        }
    }
}

/// The words of a choice, if they are not told in one line.
fn add_words(schema: &Value, depth: usize, rows: &mut Vec<Row>) {
    if !is_long(schema) {
        return;
    }
    let all = words(schema);
    for word in all.iter().take(WORDS) {
        let choice = list(schema, "oneOf").iter().find(|one| one.get("const") == Some(word));
        let description = choice.and_then(|one| one["description"].as_str()).unwrap_or_default().to_owned();
        rows.push(Row { depth, name: word.to_string(), kind: String::new(), is_required: false, description });
    }
    if all.len() > WORDS {
        let name = format!("and {} more", all.len() - WORDS);
        rows.push(Row { depth, name, kind: String::new(), is_required: false, description: String::new() });
    }
}

/// Whether a choice has many words, or words that are described.
fn is_long(schema: &Value) -> bool {
    let is_described = |one: &Value| one.get("const").is_some() && one.get("description").is_some();
    list(schema, "oneOf").iter().any(is_described) || words(schema).len() > IN_LINE
}

/// The schema itself, without a reference to it or the choice of leaving it out.
fn inner<'a>(root: &'a Value, mut schema: &'a Value) -> &'a Value {
    for _ in 0..DEPTH {
        let referred = schema["$ref"].as_str().and_then(|place| root.pointer(place.strip_prefix('#')?));
        schema = match (referred, &optional(schema)[..]) {
            (Some(referred), _) => referred,
            (None, [one]) => one,
            _ => return schema,
        };
    }
    schema
}

/// What `anyOf` has besides null.
fn optional(schema: &Value) -> Vec<&Value> {
    list(schema, "anyOf").iter().filter(|one| one["type"] != "null").collect()
}

/// What it may be, in words.
fn kind(root: &Value, schema: &Value, depth: usize) -> String {
    let schema = inner(root, schema);
    if depth == DEPTH {
        return "…".to_owned();
    }
    let part = |key: &str| schema.get(key).map(|part| kind(root, part, depth + 1));
    let words = words(schema);
    let choices = optional(schema);
    match schema["type"].as_str() {
        _ if is_long(schema) => "one of".to_owned(),
        _ if !words.is_empty() => words.iter().map(|word| word.to_string()).collect::<Vec<_>>().join(", "),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") if schema["minimum"] == 0 => "whole number, not below 0".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("number") => "number".to_owned(),
        Some("string") => "text".to_owned(),
        Some("array") => format!("list of {}", part("items").unwrap_or_else(|| "anything".to_owned())),
        Some("object") if schema["properties"].is_object() => "object".to_owned(),
        Some("object") => {
            format!("object of {}", part("additionalProperties").unwrap_or_else(|| "anything".to_owned()))
        }
        _ if !choices.is_empty() => {
            let kinds: Vec<_> = choices.iter().take(WORDS).map(|one| kind(root, one, depth + 1)).collect();
            kinds.join(", or ")
        }
        _ => "anything".to_owned(),
    }
}

/// The values that it may be one of, by `oneOf` with constants, `enum` or `const`.
fn words(schema: &Value) -> Vec<&Value> {
    let constants = list(schema, "oneOf").iter().filter_map(|one| one.get("const"));
    constants.chain(list(schema, "enum")).chain(schema.get("const")).collect()
}

fn list<'a>(schema: &'a Value, key: &str) -> &'a [Value] {
    schema[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What it says of itself, and of the words that it may be.
fn description(root: &Value, schema: &Value) -> String {
    let of = |schema: &Value| schema["description"].as_str().unwrap_or_default().to_owned();
    let own = of(schema);
    if own.is_empty() { of(inner(root, schema)) } else { own }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(schema: Value) -> Vec<String> {
        let line = |row: Row| {
            let needed = if row.is_required { "!" } else { "" };
            format!("{}{}{needed}: {}: {}", " ".repeat(row.depth), row.name, row.kind, row.description)
        };
        describe(&schema).into_iter().map(line).collect()
    }

    #[test]
    fn what_derived_schemas_say_is_shown() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {
            "a": {"type": "integer", "minimum": 0, "description": "How many."},
            "b": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}]},
            "c": {"oneOf": [{"const": "x", "description": "An x."}, {"const": "y"}]},
            "d": {"anyOf": [{"type": "object", "properties": {"e": {"type": "boolean"}}, "required": []}, {"type": "null"}]},
            "f": {"type": "object", "additionalProperties": {"type": "number"}},
            "g": {"$comment": "anything"},
            "h": {"type": "array", "items": {"type": "object", "properties": {"i": {"type": "string", "default": "z"}}}},
        }});
        assert_eq!(
            text(schema),
            [
                "a!: whole number, not below 0: How many.",
                "b: list of text: ",
                "c: one of: ",
                " \"x\": : An x.",
                " \"y\": : ",
                "d: object: ",
                " e: true or false: ",
                "f: object of number: ",
                "g: anything: ",
                "h: list of object: ",
                " i: text, \"z\" if not given: ",
            ]
        );
    }

    #[test]
    fn a_schema_without_end_is_cut() {
        let round =
            json!({"properties": {"a": {"$ref": "#"}, "b": {"type": "array", "items": {"$ref": "#/properties/b"}}}});
        assert!(text(round.clone()).len() <= ROWS);
        assert!(text(round).iter().all(|line| line.len() < 200));
        assert_eq!(text(json!({"$ref": "#"})), [""; 0]);
        assert_eq!(text(json!(7)), [""; 0]);
        let choice = |most: u8| json!({"properties": {"a": {"enum": (0..most).collect::<Vec<_>>()}}});
        assert_eq!(text(choice(5)), ["a: 0, 1, 2, 3, 4: "]);
        let many = text(choice(100));
        assert_eq!((many.len(), &*many[0], &*many[50], &*many[51]), (52, "a: one of: ", " 49: : ", " and 50 more: : "));
    }
}
