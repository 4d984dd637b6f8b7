//! Fields renamed, removed, copied and added. Bytes of cells are not copied.

use weir_plugin::event::Cell;
use weir_plugin::prelude::*;
use weir_plugin::settings::Constant;

weir_plugin::export!(Rework, name = "fields");

/// What the plugin's user may set. All names on the left, and those of keep and drop, are those that events come with.
#[derive(Default, Deserialize, Settings)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// New names of fields: `{ old: new }`.
    rename: Named<String>,
    /// Fields that come a second time, under another name: `{ from: to }`.
    copy: Named<String>,
    /// Fields that are removed. A name that ends in `*` stands for all that begin so.
    drop: Vec<String>,
    /// If given, all other fields are removed, except those renamed, copied or added.
    keep: Vec<String>,
    /// Fields that all events get, with their values.
    add: Named<Constant>,
    /// Fields that all events get from tags of their source: `{ field: tag }`. Without the tag they stay as they are.
    from_tags: Named<String>,
    /// Kinds that fields get, by their new names: text, integer, float, boolean or json.
    types: Kinds,
}

/// The plugin.
pub struct Rework {
    config: Config,
    /// The names that renaming and copying make, each with the field that it is made of.
    sources: Named<String>,
    /// Fields with values of their own.
    added: Vec<(FieldId, Vec<u8>)>,
    /// Fields with the names of their tags.
    from_tags: Vec<(FieldId, String)>,
    /// What becomes of each field of the batch, once it is known.
    actions: Vec<Option<Action>>,
}

/// What becomes of the cells of a field.
#[derive(Clone)]
struct Action {
    /// The field that the cell is put as.
    put: Option<FieldId>,
    copy: Option<FieldId>,
    /// Another field, which takes this one's place if the event has it.
    yields_to: Option<String>,
}

impl BatchPlugin for Rework {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        config.check()?;
        let kind = |name: &str, otherwise: Kind| config.types.get(name).copied().unwrap_or(otherwise);
        let mut added = Vec::new();
        for (name, value) in config.add.iter() {
            added.push((fields.add(name, kind(name, value.kind)), value.text.clone().into_bytes()));
        }
        let mut from_tags = Vec::new();
        for (name, tag) in config.from_tags.iter() {
            from_tags.push((fields.add(name, kind(name, Kind::Text)), tag.clone()));
        }
        let mut sources = Named::default();
        for (from, to) in config.rename.iter().chain(config.copy.iter()) {
            sources.insert(to.clone(), from.to_owned());
        }
        Ok(Rework { sources, added, from_tags, actions: Vec::new(), config })
    }

    fn batch(&mut self, input: &Batch, _last: bool, out: &mut Out) {
        self.actions.clear();
        for i in 0..input.len() {
            let event = input.event(i);
            let mut row = out.row(&event);
            for cell in event.cells() {
                let action = self.action(&cell, input, row.fields());
                let yields = action.yields_to.as_ref().is_some_and(|other| event.get(other).is_some());
                for field in action.put.filter(|_| !yields).iter().chain(&action.copy) {
                    row.put(*field, cell.bytes);
                }
            }
            for (field, tag) in &self.from_tags {
                if let Some(value) = tag_of(input, tag) {
                    row.put(*field, value.as_bytes());
                }
            }
            for (field, bytes) in &self.added {
                row.put(*field, bytes);
            }
            out.keep(i, i + 1);
        }
    }
}

impl Rework {
    /// What becomes of a cell of this field.
    fn action(&mut self, cell: &Cell, input: &Batch, fields: &mut Fields) -> &Action {
        if self.actions.len() <= cell.field {
            self.actions.resize(cell.field + 1, None);
        }
        if self.actions[cell.field].is_none() {
            self.actions[cell.field] = Some(self.decide(cell, input, fields));
        }
        self.actions[cell.field].as_ref().expect("it was just decided")
    }

    fn decide(&self, cell: &Cell, input: &Batch, fields: &mut Fields) -> Action {
        let Config { rename, copy, drop, keep, add, from_tags, types } = &self.config;
        let mut field = |name: &str| fields.add(name, types.get(name).copied().unwrap_or(cell.kind));
        let is_removed = has(drop, cell.name) || !keep.is_empty() && !has(keep, cell.name);
        let is_tagged = from_tags.get(cell.name).is_some_and(|tag| tag_of(input, tag).is_some());
        let is_replaced = add.get(cell.name).is_some() || is_tagged;
        let put = match rename.get(cell.name) {
            Some(new) => Some(field(new)),
            None if is_removed || is_replaced => None,
            None => Some(field(cell.name)),
        };
        let is_renamed = rename.get(cell.name).is_some();
        let yields_to = self.sources.get(cell.name).filter(|_| !is_renamed).cloned();
        Action { put, copy: copy.get(cell.name).map(|name| field(name)), yields_to }
    }
}

/// What the source has as that tag.
fn tag_of<'b>(input: &'b Batch, tag: &str) -> Option<&'b str> {
    input.tags().iter().find(|(name, _)| name == tag).map(|(_, value)| value.as_str())
}

/// Whether the name is in a list, where `a*` stands for all that begin with `a`.
fn has(list: &[String], name: &str) -> bool {
    list.iter().any(|listed| match listed.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == listed,
    })
}

impl Config {
    fn check(&self) -> Result<(), String> {
        if !self.drop.is_empty() && !self.keep.is_empty() {
            return Err("give either drop or keep, not both: keep drops all others".to_owned());
        }
        let renamed = self.rename.iter().chain(self.copy.iter()).map(|(_, to)| to.as_str());
        let mut made = Vec::new();
        for name in renamed.chain(self.add.names()).chain(self.from_tags.names()) {
            Fields::check(name)?;
            if made.contains(&name) {
                return Err(format!("field `{name}` would be made twice: by two of rename, copy, add, from_tags"));
            }
            made.push(name);
        }
        let listed = self.drop.iter().chain(&self.keep);
        match self.rename.names().find(|name| listed.clone().any(|other| other == name)) {
            Some(name) => Err(format!("field `{name}` is renamed, so that drop and keep do not apply to it")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
