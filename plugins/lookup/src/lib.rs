//! Events enriched from a table: a file of CSV that the agent's configuration grants, read once.

mod networks;
mod table;

use weir_plugin::files;
use weir_plugin::prelude::*;

use table::{Match, Table};

weir_plugin::export!(Lookup, name = "lookup");

/// What the plugin's user may set.
#[derive(Deserialize, Settings)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The table, a file of CSV below the granted directory. Its first line has the names of its columns.
    file: String,
    /// What stands between two cells of the table.
    #[serde(default = "comma")]
    separator: char,
    /// The field that is looked up.
    field: String,
    /// The column that it is looked up in.
    key: String,
    /// How a value of the field finds its row.
    #[serde(default, rename = "match")]
    how: Match,
    /// The columns that become fields; all but the key if not given.
    columns: Option<Vec<String>>,
    /// What the names of these fields begin with.
    #[serde(default)]
    prefix: String,
    /// Kinds of columns that are not text: integer, float, boolean or json.
    #[serde(default)]
    types: Kinds,
    /// What becomes of an event that has no row.
    #[serde(default)]
    on_missing: OnMissing,
}

fn comma() -> char {
    ','
}

/// What becomes of an event that has no row.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, Settings)]
#[serde(rename_all = "snake_case")]
pub enum OnMissing {
    /// It goes on as it is.
    #[default]
    Keep,
    /// It fails.
    Fail,
}

/// The plugin.
pub struct Lookup {
    field: String,
    table: Table,
    /// The fields of the table's columns, and their names.
    columns: Vec<(FieldId, String)>,
    on_missing: OnMissing,
}

impl Plugin for Lookup {
    type Settings = Config;

    fn new(config: Config, fields: &mut Fields) -> Result<Self, String> {
        let bytes = files::read(&config.file).map_err(|e| format!("file: {e}"))?;
        let separator = u8::try_from(config.separator)
            .ok()
            .filter(u8::is_ascii)
            .ok_or("separator: it must be a character of ASCII")?;
        let table = Table::read(&bytes, separator, &config.key, config.how, config.columns.as_deref())
            .map_err(|e| format!("{}: {e}", config.file))?;
        if let Some(name) = config.types.names().find(|name| !table.columns().iter().any(|column| column == name)) {
            return Err(format!("types: no column that becomes a field has the name `{name}`"));
        }
        let mut columns = Vec::new();
        for column in table.columns() {
            let name = format!("{}{column}", config.prefix);
            Fields::check(&name)?;
            let kind = config.types.get(column).copied().unwrap_or(Kind::Text);
            columns.push((fields.add(&name, kind), name));
        }
        Ok(Lookup { field: config.field, table, columns, on_missing: config.on_missing })
    }

    fn event(&mut self, event: &Event, row: &mut Row) -> Result<Fate, Failure> {
        let value = event.get(&self.field);
        let Some(found) = value.and_then(|value| self.table.find(value)) else {
            if self.on_missing == OnMissing::Fail {
                return Err(match value {
                    None => format!("no field `{}`", self.field).into(),
                    Some(_) => "no row of the table".into(),
                });
            }
            row.pass_all(event);
            return Ok(Keep);
        };
        for cell in event.cells().filter(|cell| !self.columns.iter().any(|(_, name)| name == cell.name)) {
            row.pass(&cell);
        }
        for ((field, _), value) in self.columns.iter().zip(self.table.row(found)) {
            if !value.is_empty() {
                row.put(*field, value);
            }
        }
        Ok(Keep)
    }
}

#[cfg(test)]
mod tests;
