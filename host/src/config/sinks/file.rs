//! `type: file`.

use std::time::Duration;

use super::super::fields::{Fields, Table};
use super::super::raw::Node;
use super::super::template::PathTemplate;
use super::network::{self, Compression};

/// NDJSON in files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// The file for each logstore, and each date, if it has one in it.
    pub path: PathTemplate,
    /// When a file is put aside, and another begun; never, if it isn't said.
    pub rotate: Option<Rotate>,
    /// How files that were put aside are kept: `none`, `gzip` or `zstd`.
    pub compression: Compression,
    /// When what was written is safe.
    pub sync: Sync,
}

/// When a file is put aside, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// Bytes of a file at most, unless one payload is more; 64 KiB to 1 TiB.
    pub size: u64,
    /// A file is put aside so long after it was made; 1 s to 3650 days.
    pub age: Option<Duration>,
    /// Files of one path that are kept beside the one that is written to; 1 to 100,000.
    pub keep: usize,
}

/// When what was written is on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// When the kernel thinks fit.
    #[default]
    None,
    /// Before it is reported as delivered.
    Payload,
    /// A second later.
    Interval,
}

const DAY: Duration = Duration::from_secs(86_400);

impl File {
    /// Files that are not rotated, compressed or synced.
    pub fn plain(path: PathTemplate) -> Self {
        File { path, rotate: None, compression: Compression::None, sync: Sync::None }
    }
}

pub(super) fn file(node: &Node, fields: &mut Fields) -> Option<File> {
    let table = super::table(node, &["path", "rotate", "compression", "compression_level", "sync"], fields)?;
    let path = fields.require(&table, "path").and_then(|node| super::path_template(node, fields));
    let rotate = match table.get("rotate") {
        Some(node) => rotate(node, fields).map(Some),
        None => Some(None),
    };
    let compression = network::compression(&table, &["none", "gzip", "zstd"], fields);
    if let (Some(node), None, Some(true)) =
        (table.get("compression"), table.get("rotate"), compression.map(|chosen| chosen != Compression::None))
    {
        fields.error(node, "only files that are rotated are compressed: say when with `rotate`");
    }
    let policies = [("none", Sync::None), ("payload", Sync::Payload), ("interval", Sync::Interval)];
    let sync = table.get("sync").map_or(Some(Sync::None), |node| fields.choice(node, &policies));
    Some(File { path: path?, rotate: rotate?, compression: compression?, sync: sync? })
}

fn rotate(node: &Node, fields: &mut Fields) -> Option<Rotate> {
    let table: Table = fields.table(node, &["size", "age", "keep"])?;
    let age = table.get("age");
    Some(Rotate {
        size: fields.size(table.get("size"), 100 << 20, 64 << 10..=1 << 40),
        age: age.map(|node| fields.duration(Some(node), DAY, Duration::from_secs(1)..=3650 * DAY)),
        keep: fields.integer(table.get("keep"), 10, 1..=100_000) as usize,
    })
}

#[cfg(test)]
mod tests {
    use super::super::Sink;
    use super::super::testing::{problems, sink};
    use super::*;

    #[test]
    fn all_keys_are_taken_and_most_have_defaults() {
        let file = |keys: &str| match sink(&format!("type: file, path: 'out/{{project}}-{{date}}', {keys}")) {
            Sink::File(file) => *file,
            other => panic!("{other:?}"),
        };
        let plain = file("");
        assert_eq!((plain.rotate, plain.compression, plain.sync), (None, Compression::None, Sync::None));
        let rotated = file("rotate: {}");
        assert_eq!(rotated.rotate, Some(Rotate { size: 100 << 20, age: None, keep: 10 }));
        let all =
            file("rotate: {size: 1MiB, age: 1h, keep: 3}, compression: gzip, compression_level: 1, sync: payload");
        let rotate = Rotate { size: 1 << 20, age: Some(Duration::from_secs(3600)), keep: 3 };
        assert_eq!((all.rotate, all.compression, all.sync), (Some(rotate), Compression::Gzip(1), Sync::Payload));
        assert_eq!(file("compression: none, sync: interval").sync, Sync::Interval);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (keys, expected) in [
            ("rotate: {}", "path: is required"),
            ("path: 'a/{day}'", "path: unknown placeholder `{day}`"),
            ("path: a, compression: gzip", "compression: only files that are rotated are compressed"),
            ("path: a, rotate: {}, compression: lz4", "compression: unknown word \"lz4\""),
            ("path: a, rotate: {size: 1KiB}", "rotate.size: must be a size from 64KiB to 1TiB"),
            ("path: a, rotate: {keep: 0}", "rotate.keep: must be an integer from 1 to 100000, not 0"),
            ("path: a, rotate: {age: 1ms}", "rotate.age: must be a duration from 1s to 3650d"),
            ("path: a, rotate: 5MiB", "rotate: must be a mapping, not \"5MiB\""),
            ("path: a, sync: always", "sync: unknown word \"always\""),
        ] {
            let said = problems(&format!("type: file, {keys}"));
            assert!(said.len() == 1 && said[0].starts_with(expected), "{keys}: {said:?}");
        }
    }
}
