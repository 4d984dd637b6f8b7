//! The config file: from YAML to [`Config`], or to every error in it with its place.
//!
//! `raw` what was typed, with `scalar` · `interpolate` `${NAME}` from the environment · `resolved` what it means,
//! with `logstore` for the largest part of it, `project`, `admin`, `secret`, `keys`, and `limits` of plugins · `fields` typed reading · `template` names and paths ·
//! `units` sizes and durations · `problem` errors and how they are shown.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::environment;

mod admin;
mod fields;
mod interpolate;
mod keys;
mod limits;
mod logstore;
mod problem;
mod project;
mod raw;
#[cfg(test)]
mod reference;
mod resolved;
mod scalar;
mod secret;
pub mod sinks;
mod template;
pub mod units;

pub use admin::{Admin, ServerTls};
pub use keys::PluginKeys;
pub use limits::Limits;
pub use problem::{ConfigErrors, Place, Problem};
pub use project::{Project, Uploads, divide_memory};
pub use resolved::{
    Config, Confine, DeadLetters, Files, Format, Invalid, Logstore, LongEvent, Multiline, NotReplaceable, OnFault,
    Patterns, PluginRef, PluginUse, Rotated, StartAt, WhenFull,
};
pub use secret::{SHORTEST_TOKEN, Secret};
pub use sinks::Sink;
pub use template::{BadLogstoreName, BadTemplate, LogstoreName, PathTemplate, Template, UtcHour, is_name};

/// Where plugins are looked for if the config doesn't say.
pub fn default_plugin_dirs() -> Vec<PathBuf> {
    vec![PathBuf::from("/usr/lib/weir/plugins"), PathBuf::from("/etc/weir/plugins")]
}

/// A config that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What the file means.
    pub config: Config,
    /// What may be a mistake, in the order of the lines.
    pub warnings: Vec<Problem>,
}

/// Reads a config file, with the variables of the process's environment.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let name = path.to_string_lossy();
    let text = read(path).map_err(|problem| ConfigErrors::new(&*name, vec![problem]))?;
    parse_at(&text, &name, base_of(path), &|name| environment::lookup(name, &environment::process))
}

/// How the agent of a configuration is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Where the operator's token is, if `admin` has none.
    pub data_dir: PathBuf,
    /// Its server, if it has one.
    pub admin: Option<Admin>,
}

/// Reads how an agent is reached from its config file. What else is wrong there does not matter: the agent may go on with
/// the configuration before.
pub fn reach(path: &Path) -> Result<Reach, ConfigErrors> {
    let name = path.to_string_lossy();
    let text = read(path).map_err(|problem| ConfigErrors::new(&*name, vec![problem]))?;
    let mut problems = problem::Problems::default();
    let mut root = raw::read(&text, &mut problems);
    problems.finish(&name, Some(()))?;
    let mut ignored = problem::Problems::default();
    let env = |name: &str| environment::lookup(name, &environment::process);
    interpolate::interpolate(&mut root, &env, &mut ignored);
    Ok(resolved::reach(&root, &mut fields::Fields { base: base_of(path), problems: &mut ignored }))
}

/// Reads a config's text. `name` is the file's name: for messages, and its directory is what relative paths are
/// relative to. `env` gives the value of an environment variable.
pub fn parse(text: &str, name: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Loaded, ConfigErrors> {
    parse_at(text, name, base_of(Path::new(name)), env)
}

fn parse_at(
    text: &str,
    name: &str,
    base: PathBuf,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, ConfigErrors> {
    let mut problems = problem::Problems::default();
    let mut root = raw::read(text, &mut problems);
    interpolate::interpolate(&mut root, env, &mut problems);
    let config = resolved::resolve(&root, &mut fields::Fields { base, problems: &mut problems });
    problems.finish(name, config).map(|(config, warnings)| Loaded { config, warnings })
}

/// The absolute directory of a file.
fn base_of(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

fn read(path: &Path) -> Result<String, Problem> {
    let unreadable = |e: io::Error| Problem::new(Place::default(), format!("cannot be read: {e}"));
    let mut bytes = Vec::new();
    // One byte more than is allowed shows that there are too many.
    let limit = raw::MAX_TEXT as u64 + 1;
    File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(unreadable)?;
    String::from_utf8(bytes).map_err(|e| {
        let before = String::from_utf8_lossy(&e.as_bytes()[..e.utf8_error().valid_up_to()]);
        let (line, column) = raw::position(&before);
        Problem::new(Place { line, column, ..Place::default() }, "not UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;

    const EXAMPLE: &str = r#"
data_dir: /var/lib/weir             # checkpoints, uploaded plugins, compiled cache
plugin_dirs: [/usr/lib/weir/plugins, plugins]     # `use: nginx` finds nginx.wasm here
workers: ${WORKERS:-3}
projects:
  shop: { share: 2, cpu: 500m, memory: 128MiB, limits: { fuel_per_byte: 20000, counters: 5 } }
logstores:
  - name: shop/nginx-access
    machine_groups: [nginx-log-sidecar]   # only agents of such a group run it; absent: all
    files:
      root: ${LOGS}/nginx                 # nothing outside it is ever opened
      include: ["*.log", "**/*.access"]
      exclude: ["debug-*.log"]
      from: end
      poll_interval: 250ms
      max_line: 64KiB
      multiline: { start: '^\d{4}-' , continue: '^\s' }
      flush_after: 2s
      format: cri
      encoding: GB2312
      invalid: keep
      long_lines: truncate
      ignore_older: 7d
      rotated: { wait: 250ms, max_files: 0, max_size: 1TiB }
      max_open_files: 5
    plugins:
      - use: nginx                        # a name, a path to a .wasm, or sha256:…
        settings: { format: combined, z: 1, a: [1.5, true, ~, "1", '${LOGS}$$'] }
        limits: { fuel_base: 1, fuel_per_byte: 20000, memory: 128MiB }
      - use: ./own/filter.wasm
        settings: { drop: [{ field: uri, equals: /healthz }] }
        files: /etc/weir/tables
        replaceable: true
      - use: sha256:0123456789abcdef0123456789ABCDEF0123456789abcdef0123456789abcdef
    on_fault: hold
    sink: archive
  - name: other/app
    files: { root: logs }
    sink: nowhere
sinks:
  archive: { type: file, path: "out/{project}/{logstore}.ndjson" }
  nowhere: { type: blackhole }
  screen: { type: stdout }
confine: off
memory: 1GiB
"#;

    fn env(name: &str) -> Option<String> {
        match name {
            "LOGS" => Some("/var/log".into()),
            "EMPTY" => Some(String::new()),
            "SECRET" => Some("hunter2".into()),
            _ => None,
        }
    }

    fn parsed(text: &str) -> Result<Loaded, ConfigErrors> {
        parse(text, "/etc/weir/weir.yaml", &env)
    }

    fn errors(text: &str) -> String {
        parse(text, "weir.yaml", &env).unwrap_err().to_string()
    }

    fn place(path: &str, line: usize, column: usize) -> Place {
        Place { path: path.into(), line, column }
    }

    /// A config without mistakes, but for what is put in for the sink's type and the logstore's other keys.
    fn with(files: &str, rest: &str) -> String {
        format!(
            "logstores:\n- name: a/b\n  files: {{root: /x{files}}}\n  sink: s\n{rest}\nsinks: {{s: {{type: stdout}}}}\n"
        )
    }

    #[test]
    fn the_example_means_what_it_says() {
        let Loaded { config, warnings } = parsed(EXAMPLE).unwrap();
        let plugin = |reference, settings: &str, limits, index, line| PluginUse {
            reference,
            settings: settings.into(),
            limits,
            files: (index == 1).then(|| "/etc/weir/tables".into()),
            replaceable: (index == 1).then_some(true),
            place: place(&format!("logstores[0].plugins[{index}]"), line, 9),
        };
        let digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        let access = Logstore {
            name: LogstoreName { project: "shop".into(), logstore: "nginx-access".into() },
            machine_groups: vec!["nginx-log-sidecar".into()],
            files: Files {
                root: "/var/log/nginx".into(),
                include: vec!["*.log".into(), "**/*.access".into()],
                exclude: vec!["debug-*.log".into()],
                from: StartAt::End,
                ignore_older: Some(Duration::from_secs(7 * 24 * 3600)),
                poll_interval: Duration::from_millis(250),
                format: Format::Cri,
                encoding: "GBK",
                invalid: Invalid::Keep,
                max_line: 65536,
                long_lines: LongEvent::Truncate,
                multiline: Some(Multiline {
                    patterns: Patterns::StartContinue(r"^\d{4}-".into(), r"^\s".into()),
                    max_lines: 1000,
                }),
                flush_after: Duration::from_secs(2),
                rotated: Rotated { wait: Duration::from_millis(250), max_files: 0, max_size: 1 << 40 },
                max_open_files: 5,
            },
            plugins: vec![
                plugin(
                    PluginRef::Name("nginx".into()),
                    r#"{"format":"combined","z":1,"a":[1.5,true,null,"1","/var/log$"]}"#,
                    Limits { fuel_base: 1, fuel_per_byte: 20_000, memory: 128 << 20, counters: 5, ..Limits::default() },
                    0,
                    27,
                ),
                plugin(
                    PluginRef::Path("/etc/weir/own/filter.wasm".into()),
                    r#"{"drop":[{"field":"uri","equals":"/healthz"}]}"#,
                    Limits { counters: 5, ..Limits::default() },
                    1,
                    30,
                ),
                plugin(PluginRef::Digest(digest.into()), "{}", Limits { counters: 5, ..Limits::default() }, 2, 34),
            ],
            limits: Limits { counters: 5, ..Limits::default() },
            plugin_keys: Default::default(),
            on_fault: OnFault::Hold,
            sinks: vec!["archive".into()],
            place: place("logstores[0]", 8, 5),
        };
        let app = Logstore {
            name: "other/app".parse().unwrap(),
            machine_groups: vec![],
            files: Files {
                root: "/etc/weir/logs".into(),
                include: vec!["*.log".into()],
                exclude: vec![],
                from: StartAt::Beginning,
                ignore_older: None,
                poll_interval: Duration::from_secs(1),
                format: Format::Lines,
                encoding: "UTF-8",
                invalid: Invalid::Keep,
                max_line: 1 << 20,
                long_lines: LongEvent::Split,
                multiline: None,
                flush_after: Duration::from_secs(5),
                rotated: Rotated { wait: Duration::from_secs(30), max_files: 100, max_size: 1 << 30 },
                max_open_files: 10_000,
            },
            plugins: vec![],
            limits: Limits::default(),
            plugin_keys: Default::default(),
            on_fault: OnFault::Raw,
            sinks: vec!["nowhere".into()],
            place: place("logstores[1]", 37, 5),
        };
        let shop = Project {
            share: 2,
            cpu: Some(500),
            memory: Some(128 << 20),
            limits: Limits { fuel_per_byte: 20_000, counters: 5, memory: 128 << 20, ..Limits::MOST },
            ..Project::default()
        };
        let archive = PathTemplate::parse("out/{project}/{logstore}.ndjson", Path::new("/etc/weir")).unwrap();
        let expected = Config {
            dead_letters: DeadLetters::default(),
            admin: None,
            data_dir: "/var/lib/weir".into(),
            plugin_dirs: vec!["/usr/lib/weir/plugins".into(), "/etc/weir/plugins".into()],
            workers: 3,
            memory: Some(1 << 30),
            confine: Confine::Off,
            projects: BTreeMap::from([("shop".into(), shop), ("other".into(), Project::default())]),
            logstores: vec![access.into(), app.into()],
            sinks: BTreeMap::from([
                ("archive".into(), Sink::File(Box::new(sinks::File::plain(archive)))),
                ("nowhere".into(), Sink::Blackhole),
                ("screen".into(), Sink::Stdout),
            ]),
        };
        assert_eq!(config, expected);
        assert_eq!(warnings, [Problem::new(place("sinks.screen", 43, 3), "no logstore uses it")]);
    }

    #[test]
    fn defaults_and_warnings() {
        let text = with("", "data_dir:\nprojects: {c: {share: 3}, a: }");
        let Loaded { config, warnings } = parsed(&text).unwrap();
        let cores = std::thread::available_parallelism().unwrap().get();
        assert_eq!(config.workers, cores.min(2));
        assert_eq!(config.data_dir, Path::new("/var/lib/weir"));
        assert_eq!(config.plugin_dirs, [Path::new("/usr/lib/weir/plugins"), Path::new("/etc/weir/plugins")]);
        assert_eq!(config.projects["a"], Project::default());
        assert_eq!(config.projects["c"], Project { share: 3, ..Project::default() });
        assert_eq!(warnings, [Problem::new(place("projects.c", 6, 12), "no logstore belongs to it")]);
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let text = r#"data_dirs: /x
workers: 0
plugin_dirs: /usr/lib
projects:
  Shop: { share: 5000 }
logstores:
  - name: shop
    files:
      rot: /var/log
      include: [/abs, "a[", "../x", 3]
      from: beggining
      poll_interval: 5
      max_line: 64Mi
      codec: gzip
    plugins:
      - settings: [1]
      - use: Nginx
        limits: { memory: 2GiB, fuel_base: many }
      - use: sha256:12
        settings: { a: .inf, b: 1, b: 2 }
    sink: archiv
  - name: shop/a
    files: { root: "../x" }
    sink: ${SECRET}
  - name: shop/a
    files: { root: "${NOPE}" }
sinks:
  archive: { type: file, path: "out/{tenant}" }
  out: { type: stdot }
  up: { type: file, path: ../x }
  none: { path: a }
  extra: { type: blackhole, path: a }
"#;
        let name = "1 to 63 of a-z, 0-9, `_`, `.` and `-`, of which the first is a letter or a digit";
        let expected = format!(
            r#"weir.yaml:1:1: data_dirs: unknown key
  hint: did you mean `data_dir`?
weir.yaml:2:1: workers: must be an integer from 1 to 256, not 0
weir.yaml:3:1: plugin_dirs: must be a list, not "/usr/lib"
  hint: put it in brackets: [a, b]
weir.yaml:5:3: projects.Shop: the name must be {name}
weir.yaml:5:11: projects.Shop.share: must be an integer from 1 to 1000, not 5000
weir.yaml:7:5: logstores[0].name: must be `project/logstore`, each {name}; not "shop"
weir.yaml:8:5: logstores[0].files.root: is required
weir.yaml:9:7: logstores[0].files.rot: unknown key
  hint: did you mean `root`?
weir.yaml:10:17: logstores[0].files.include[0]: a glob is relative to `root`, without `..`
weir.yaml:10:23: logstores[0].files.include[1]: "a[" is not a glob: unclosed character class; missing ']'
weir.yaml:10:29: logstores[0].files.include[2]: a glob is relative to `root`, without `..`
weir.yaml:10:37: logstores[0].files.include[3]: must be a string, not 3
  hint: put it in quotes
weir.yaml:11:7: logstores[0].files.from: unknown word "beggining"
  hint: did you mean `beginning`?
weir.yaml:12:7: logstores[0].files.poll_interval: must be a duration from 10ms to 1h, not 5
  hint: write 250ms, 10s, 5m, 1h or 7d
weir.yaml:13:7: logstores[0].files.max_line: must be a size from 1KiB to 64MiB, not "64Mi"
  hint: write 64MiB, 10KiB, 1MB or a number of bytes
weir.yaml:14:7: logstores[0].files.codec: unknown key
  hint: known keys: root, include, exclude, from, ignore_older, poll_interval, format, encoding, invalid, max_line, long_lines, multiline, flush_after, rotated, max_open_files
weir.yaml:16:9: logstores[0].plugins[0].use: is required
weir.yaml:16:9: logstores[0].plugins[0].settings: must be a mapping, not a list
weir.yaml:17:9: logstores[0].plugins[1].use: must be a plugin's name, the path of a .wasm, or `sha256:` and a digest, not "Nginx"
weir.yaml:18:19: logstores[0].plugins[1].limits.memory: must be a size from 1MiB to 1GiB, not "2GiB"
weir.yaml:18:33: logstores[0].plugins[1].limits.fuel_base: must be an integer from 1 to 1000000000000000, not "many"
weir.yaml:19:9: logstores[0].plugins[2].use: a digest is `sha256:` and 64 hex digits
weir.yaml:20:21: logstores[0].plugins[2].settings.a: plugins take no infinite numbers, nor what is not a number
weir.yaml:20:36: logstores[0].plugins[2].settings.b: the key is already on line 20
weir.yaml:21:5: logstores[0].sink: there is no sink "archiv"
  hint: did you mean `archive`?
weir.yaml:23:14: logstores[1].files.root: must not have `..` in it
weir.yaml:24:5: logstores[1].sink: there is no sink "${{SECRET}}"
  hint: sinks are archive, extra, none, out, up
weir.yaml:25:5: logstores[2].name: "shop/a" is taken by logstores[1].name on line 22
weir.yaml:25:5: logstores[2].sink: is required
weir.yaml:26:14: logstores[2].files.root: environment variable NOPE is not set
  hint: set it, or write `${{NOPE:-default}}`
weir.yaml:28:26: sinks.archive.path: unknown placeholder `{{tenant}}`
  hint: placeholders are {{project}}, {{logstore}}, {{date}} and {{hour}}
weir.yaml:29:10: sinks.out.type: unknown word "stdot"
  hint: did you mean `stdout`?
weir.yaml:30:21: sinks.up.path: must not have `..` in it
weir.yaml:31:3: sinks.none.type: is required
weir.yaml:32:29: sinks.extra.path: unknown key
  hint: known keys: type
35 errors in weir.yaml"#
        );
        assert_eq!(errors(text), expected);
    }

    /// The files of a logstore with these keys.
    fn files(keys: &str) -> Files {
        parsed(&with(keys, "")).unwrap().config.logstores.remove(0).files.clone()
    }

    #[test]
    fn words_that_say_how_files_are_read() {
        for (word, format) in [("lines", Format::Lines), ("cri", Format::Cri), ("docker", Format::Docker)] {
            assert_eq!(files(&format!(", format: {word}")).format, format);
        }
        let policies = [("split", LongEvent::Split), ("truncate", LongEvent::Truncate), ("skip", LongEvent::Skip)];
        for (word, policy) in policies {
            assert_eq!(files(&format!(", long_lines: {word}")).long_lines, policy);
        }
        for (word, policy) in [("replace", Invalid::Replace), ("keep", Invalid::Keep)] {
            for encoding in ["utf-8", "gbk"] {
                assert_eq!(files(&format!(", encoding: {encoding}, invalid: {word}")).invalid, policy);
            }
        }
    }

    #[test]
    fn encodings_go_by_any_of_their_names_and_say_what_is_done_with_invalid_bytes() {
        for (label, name, invalid) in [
            ("utf-8", "UTF-8", Invalid::Keep),
            ("UTF8", "UTF-8", Invalid::Keep),
            ("unicode-1-1-utf-8", "UTF-8", Invalid::Keep),
            ("utf-16", "UTF-16LE", Invalid::Replace),
            ("utf-16be", "UTF-16BE", Invalid::Replace),
            ("gb2312", "GBK", Invalid::Replace),
            ("sjis", "Shift_JIS", Invalid::Replace),
            ("latin1", "windows-1252", Invalid::Replace),
            ("'866'", "IBM866", Invalid::Replace),
        ] {
            let files = files(&format!(", encoding: {label}"));
            assert_eq!((files.encoding, files.invalid), (name, invalid), "{label}");
            assert!(encoding_rs::Encoding::for_label(name.as_bytes()).is_some_and(|found| found.name() == name));
        }
    }

    #[test]
    fn limits_of_files_are_taken_to_their_ends() {
        let age = |text: &str| files(&format!(", ignore_older: {text}")).ignore_older;
        assert_eq!(
            ["", "1s", "3650d"].map(age),
            [None, Some(1), Some(315_360_000)].map(|s| s.map(Duration::from_secs))
        );
        let rotated = |keys: &str| files(&format!(", rotated: {keys}")).rotated;
        assert_eq!(["", "{}"].map(rotated), [Rotated::default(), Rotated::default()]);
        assert_eq!(rotated("{wait: 1h}"), Rotated { wait: Duration::from_secs(3600), ..Rotated::default() });
        assert_eq!(rotated("{wait: 100ms}"), Rotated { wait: Duration::from_millis(100), ..Rotated::default() });
        assert_eq!(rotated("{max_files: 100000}"), Rotated { max_files: 100_000, ..Rotated::default() });
        assert_eq!(rotated("{max_size: 0}"), Rotated { max_size: 0, ..Rotated::default() });
        assert_eq!(["1", "1000000"].map(|n| files(&format!(", max_open_files: {n}")).max_open_files), [1, 1_000_000]);
    }

    #[test]
    fn keys_of_files_that_are_wrong() {
        let not_an_encoding =
            "is not an encoding: use a WHATWG name such as utf-8, utf-16le, gbk, shift_jis, windows-1252";
        for (keys, expected) in [
            ("format: dokcer", "21: F.format: unknown word \"dokcer\"\n  hint: did you mean `docker`?"),
            ("format: json", "21: F.format: unknown word \"json\"\n  hint: it is one of lines, cri, docker"),
            ("formt: cri", "21: F.formt: unknown key\n  hint: did you mean `format`?"),
            ("long_lines: splt", "21: F.long_lines: unknown word \"splt\"\n  hint: did you mean `split`?"),
            ("long_lines: drop", "21: F.long_lines: unknown word \"drop\"\n  hint: it is one of split, truncate, skip"),
            ("encoding: latin9", &format!("21: F.encoding: \"latin9\" {not_an_encoding}")),
            ("encoding: replacement", &format!("21: F.encoding: \"replacement\" {not_an_encoding}")),
            ("encoding: iso-2022-kr", &format!("21: F.encoding: \"iso-2022-kr\" {not_an_encoding}")),
            ("encoding: '${SECRET}'", &format!("21: F.encoding: \"${{SECRET}}\" {not_an_encoding}")),
            ("encoding: 866", "21: F.encoding: must be a string, not 866\n  hint: put it in quotes"),
            ("invalid: drop", "21: F.invalid: unknown word \"drop\"\n  hint: it is one of replace, keep"),
            ("ignore_older: 999ms", "21: F.ignore_older: must be a duration from 1s to 3650d, not \"999ms\""),
            ("ignore_older: 3651d", "21: F.ignore_older: must be a duration from 1s to 3650d, not \"3651d\""),
            (
                "ignore_older: 7",
                "21: F.ignore_older: must be a duration from 1s to 3650d, not 7\n  hint: write 250ms, 10s, 5m, 1h or 7d",
            ),
            ("rotated: 30s", "21: F.rotated: must be a mapping, not \"30s\""),
            ("rotated: {age: 1s}", "31: F.rotated.age: unknown key\n  hint: known keys: wait, max_files, max_size"),
            ("rotated: {wait: 99ms}", "31: F.rotated.wait: must be a duration from 100ms to 1h, not \"99ms\""),
            ("rotated: {wait: 1d}", "31: F.rotated.wait: must be a duration from 100ms to 1h, not \"1d\""),
            (
                "rotated: {max_files: 100001}",
                "31: F.rotated.max_files: must be an integer from 0 to 100000, not 100001",
            ),
            ("rotated: {max_size: 1025GiB}", "31: F.rotated.max_size: must be a size from 0B to 1TiB, not \"1025GiB\""),
            (
                "rotated: {max_size: 1.5TiB}",
                "31: F.rotated.max_size: must be a size from 0B to 1TiB, not \"1.5TiB\"\n  \
                 hint: write 64MiB, 10KiB, 1MB or a number of bytes",
            ),
            ("max_open_files: 0", "21: F.max_open_files: must be an integer from 1 to 1000000, not 0"),
            ("max_open_files: 1000001", "21: F.max_open_files: must be an integer from 1 to 1000000, not 1000001"),
        ] {
            let expected = expected.replacen("F.", "logstores[0].files.", 1);
            let said = errors(&with(&format!(", {keys}"), ""));
            assert_eq!(said, format!("weir.yaml:3:{expected}\n1 error in weir.yaml"), "{keys}");
        }
    }

    #[test]
    fn multiline_that_makes_no_sense() {
        for (files, expected) in [
            (", multiline: {}", "logstores[0].files.multiline: needs `start`, or `start` and `continue`, or `end`"),
            (", multiline: {start: a, end: b}", "logstores[0].files.multiline: needs `start`, or"),
            (
                ", multiline: {start: '('}",
                "logstores[0].files.multiline.start: \"(\" is not a regular expression: unclosed group",
            ),
            (", flush_after: 1ms", "logstores[0].files.flush_after: must be a duration from 100ms to 1h"),
        ] {
            let said = errors(&with(files, ""));
            assert!(said.contains(expected) && said.ends_with("1 error in weir.yaml"), "{said}");
        }
    }

    #[test]
    fn an_upload_takes_the_place_of_one_plugin() {
        let plugins = |plugins: &str| parsed(&with("", &format!("  plugins: [{plugins}]")));
        let slot = |text: &str| plugins(text).unwrap().config.logstores[0].upload_slot();
        assert_eq!(slot(""), Ok(0));
        assert_eq!(slot("{use: a}"), Ok(0));
        assert_eq!(slot("{use: a, replaceable: true}"), Ok(0));
        assert_eq!(slot("{use: a, replaceable: false}"), Err(NotReplaceable::Forbidden));
        assert_eq!(slot("{use: a}, {use: b, replaceable: false}"), Err(NotReplaceable::Ambiguous));
        assert_eq!(slot("{use: a}, {use: b, replaceable: true}, {use: c, replaceable: false}"), Ok(1));
        let said = errors(&with("", "  plugins: [{use: a, replaceable: true}, {use: b, replaceable: true}]"));
        let expected = "weir.yaml:5:42: logstores[0].plugins[1].replaceable: logstores[0].plugins[0] is replaceable \
                        already, and an upload takes the place of one plugin\n1 error in weir.yaml";
        assert_eq!(said, expected);
    }

    #[test]
    fn files_that_are_wrong_as_a_whole() {
        let required = "weir.yaml:1:1: logstores: is required\n1 error in weir.yaml";
        let cases = [
            ("", required),
            ("# nothing\n", required),
            ("logstores: []", "weir.yaml:1:1: logstores: must have at least one logstore\n1 error in weir.yaml"),
            ("- a", "weir.yaml:1:1: must be a mapping, not a list\n1 error in weir.yaml"),
            ("hello", "weir.yaml:1:1: must be a mapping, not \"hello\"\n1 error in weir.yaml"),
            ("${SECRET}", "weir.yaml:1:1: must be a mapping, not \"${SECRET}\"\n1 error in weir.yaml"),
        ];
        for (text, expected) in cases {
            assert_eq!(errors(text), expected, "{text}");
        }
    }

    #[test]
    fn numbers_may_be_substituted_and_text_in_settings_stays_text() {
        let plugins =
            "  plugins: [{use: p, settings: {n: '${N:-7}'}, limits: {memory: '${N:-2MiB}'}}]\nworkers: ${N:-7}";
        let config = parsed(&with(", max_line: '${N:-2048}'", plugins)).unwrap().config;
        let Logstore { files, plugins, .. } = &*config.logstores[0];
        assert_eq!((config.workers, files.max_line, plugins[0].limits.memory), (7, 2048, 2 << 20));
        assert_eq!(plugins[0].settings, r#"{"n":"7"}"#);
        let text = with("", "workers: ${SECRET}");
        let shown = "weir.yaml:5:1: workers: must be an integer from 1 to 256, not \"${SECRET}\"\n1 error in weir.yaml";
        assert_eq!(errors(&text), shown);
    }

    #[test]
    fn a_sink_that_is_wrong_does_not_seem_to_be_missing() {
        let text = with("", "").replace("stdout", "'${EMPTY}'");
        assert_eq!(errors(&text), "weir.yaml:6:13: sinks.s.type: must not be empty\n1 error in weir.yaml");
        let text = with("", "").replace("{s: {type: stdout}}", "[s]");
        assert_eq!(errors(&text), "weir.yaml:6:1: sinks: must be a mapping, not a list\n1 error in weir.yaml");
        let text = with("", "").replace("sinks: {s: {type: stdout}}", "");
        let shown = "weir.yaml:4:3: logstores[0].sink: there is no sink \"s\"\n  hint: declare it under `sinks`";
        assert_eq!(errors(&text), format!("{shown}\n1 error in weir.yaml"));
    }

    #[test]
    fn other_line_ends_and_a_byte_order_mark_change_nothing() {
        let expected = parsed(EXAMPLE).unwrap();
        assert_eq!(parsed(&EXAMPLE.replace('\n', "\r\n")).unwrap(), expected);
        assert_eq!(parsed(&format!("\u{feff}{EXAMPLE}")).unwrap(), expected);
    }

    #[test]
    fn tabs_do_not_indent() {
        let shown = "weir.yaml:2:2: not valid YAML: tabs disallowed within this context (block indentation)\n  \
                     hint: indent with spaces, not with tabs\n1 error in weir.yaml";
        assert_eq!(errors("sinks:\n\ta: {type: stdout}\n"), shown);
    }

    #[test]
    fn files_are_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("weir.yaml");
        let shown = |path: &Path| load(path).unwrap_err().to_string().replace(dir.path().to_str().unwrap(), "DIR");
        let missing = "DIR/weir.yaml: cannot be read: No such file or directory (os error 2)\n1 error in DIR/weir.yaml";
        assert_eq!(shown(&path), missing);
        assert_eq!(shown(dir.path()), "DIR: cannot be read: Is a directory (os error 21)\n1 error in DIR");
        std::fs::write(&path, b"a: 1\n\xc3\xa4\xff: 2").unwrap();
        assert_eq!(shown(&path), "DIR/weir.yaml:2:2: not UTF-8\n1 error in DIR/weir.yaml");
        std::fs::write(&path, vec![b'#'; raw::MAX_TEXT + 1]).unwrap();
        let large = "DIR/weir.yaml: the file is larger than 1024 KiB\n1 error in DIR/weir.yaml";
        assert_eq!(shown(&path), large);
        std::fs::write(&path, with("", "").replace("/x", "./logs/")).unwrap();
        let config = load(&path).unwrap().config;
        assert_eq!(config.logstores[0].files.root.to_str(), dir.path().join("logs").to_str());
    }

    /// Thousands of broken configs, the same in every run: each one is a config or has errors, all on lines of
    /// the file and in their order.
    #[test]
    fn mutated_configs_end_in_a_config_or_in_errors() {
        let scraps = [
            "\n",
            "  ",
            "\t",
            "- ",
            ": ",
            "{",
            "}",
            "[",
            "]",
            "'",
            "\"",
            "&a ",
            "*a",
            "!t ",
            "|\n",
            ">",
            "? ",
            "#",
            "%",
            "---\n",
            "...\n",
            "${",
            "}",
            "${A:?",
            "$",
            "\\",
            "\0",
            "\u{feff}",
            "\u{2028}",
            "\r",
            "é",
            "99999999999999999999",
            "~",
            "-1",
            "1e999",
            ".nan",
            "<<",
            "..",
            "**",
            "[!a",
            "{a,{b",
            "0x",
            "@",
            "`",
            ",",
        ];
        let mut state = 1u64;
        let mut random = |below: usize| {
            // Knuth's MMIX generator; the high bits are the good ones.
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % below
        };
        let (mut good, mut bad) = (0, 0);
        for _ in 0..3000 {
            let mut chars: Vec<char> = EXAMPLE.chars().collect();
            for _ in 0..=random(4) {
                let at = random(chars.len());
                let end = (at + random(12)).min(chars.len());
                match random(4) {
                    0 => _ = chars.drain(at..end),
                    1 => _ = chars.splice(at..end, scraps[random(scraps.len())].chars()),
                    2 => _ = chars.splice(at..at, scraps[random(scraps.len())].chars()),
                    _ => {
                        let copied: Vec<char> = chars[at..end].to_vec();
                        let to = random(chars.len());
                        chars.splice(to..to, copied);
                    }
                }
            }
            let text: String = chars.into_iter().collect();
            let lines = text.split(['\n', '\r']).count();
            match parsed(&text) {
                Ok(Loaded { config, .. }) => {
                    assert!(!config.logstores.is_empty());
                    assert!(
                        config
                            .logstores
                            .iter()
                            .all(|logstore| logstore.sinks.iter().all(|sink| config.sinks.contains_key(sink))),
                        "{text}"
                    );
                    good += 1;
                }
                Err(errors) => {
                    assert!(!errors.problems().is_empty(), "{text}");
                    assert!(errors.problems().iter().all(|p| (1..=lines).contains(&p.place.line)), "{errors}\n{text}");
                    assert!(errors.problems().is_sorted_by_key(|p| p.place.line));
                    bad += 1;
                }
            }
        }
        assert!(good > 100 && bad > 1000, "{good} good, {bad} bad");
    }
}
