//! What a configuration needs of the machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::capabilities::Keep;
use crate::config::sinks::File;
use crate::config::{Config, Logstore, LogstoreName, PluginRef, Sink, UtcHour};

/// Directories whose other contents are nobody's logs: a root in one of them is granted by itself, if it is there.
const SYSTEM: [&str; 10] = ["/", "/boot", "/dev", "/etc", "/home", "/proc", "/run", "/sys", "/usr", "/var"];

/// What looking up a name reads.
const RESOLVER: [&str; 6] =
    ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf", "/etc/services"];

/// Where a system keeps the certificates that it trusts.
const ROOTS: [&str; 6] = [
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/lib/ssl",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
];

/// A proxy may be at any port.
const PROXIES: [&str; 6] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// Whoever opens a pipe so does not wait for its other end.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;

/// The files, directories and ports that a process needs. A directory stands for all that is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// To read.
    pub read: BTreeSet<PathBuf>,
    /// To run, and to read.
    pub run: BTreeSet<PathBuf>,
    /// To make files and directories in, to read them and to write to them.
    pub write: BTreeSet<PathBuf>,
    /// The same, and to list, rename and remove files.
    pub rotate: BTreeSet<PathBuf>,
    /// To do anything in.
    pub own: BTreeSet<PathBuf>,
    /// Ports of TCP to connect to.
    pub connect: BTreeSet<u16>,
    /// Whether it may connect to all of them.
    pub connects_anywhere: bool,
    /// Ports of TCP to listen on.
    pub listen: BTreeSet<u16>,
    /// Files and directories that must be writable.
    pub(super) written: BTreeSet<PathBuf>,
    /// What has to be granted although nobody needs it, and why.
    pub(super) gaps: Vec<String>,
    /// Whether it reads files of any owner.
    pub(super) reads_all: bool,
}

impl Needs {
    /// What an agent needs that runs some logstores of the configuration. Its data directory is
    /// there; the directories of sinks are made.
    pub fn of<'a>(config: &'a Config, logstores: impl Iterator<Item = &'a Arc<Logstore>>) -> Needs {
        let mut needs = Needs { reads_all: true, ..Needs::default() };
        needs.add_data(&config.data_dir);
        needs.add_program();
        config.plugin_dirs.iter().for_each(|dir| needs.add_plugins(dir));
        let keys = config.projects.values().flat_map(|project| &project.plugin_keys.files);
        keys.for_each(|file| needs.add_with_directory(file));
        if let Some(admin) = &config.admin {
            needs.listen.insert(admin.listen.port());
            let tokens = config.projects.values().filter_map(|project| project.token.as_ref()?.file());
            admin.files().into_iter().chain(tokens).for_each(|file| needs.add_with_directory(file));
        }
        for logstore in logstores {
            needs.add_root(&logstore.files.root);
            for used in &logstore.plugins {
                if let PluginRef::Path(path) = &used.reference {
                    needs.add_with_directory(path);
                }
                needs.read.extend(used.files.as_deref().and_then(real));
            }
            for sink in &logstore.sinks {
                match &config.sinks[sink] {
                    Sink::File(file) => needs.add_output(file, &file.path.render(&logstore.name, UtcHour::now())),
                    Sink::Stdout | Sink::Blackhole => {}
                    sink => needs.add_network(sink, &logstore.name),
                }
            }
        }
        needs
    }

    /// A file that is read again when it changes: that of the configuration.
    pub fn add_file(&mut self, file: &Path) {
        self.add_with_directory(file);
    }

    /// What these needs have that a process confined to others has not, in words: `reading /var/log/app`.
    pub fn lacking(&self, granted: &Needs) -> Vec<String> {
        let Needs { read, run, write, rotate, own, .. } = granted;
        let paths = [
            ("reading", &self.read, vec![read, run, write, rotate, own]),
            ("running", &self.run, vec![run]),
            ("writing to", &self.write, vec![write, rotate, own]),
            ("rotating files in", &self.rotate, vec![rotate, own]),
            ("keeping its own files in", &self.own, vec![own]),
        ];
        let mut lacking = Vec::new();
        for (doing, wanted, granted) in paths {
            let is_granted = |path: &Path| granted.iter().any(|paths| paths.iter().any(|dir| path.starts_with(dir)));
            let paths = wanted.iter().filter(|path| !is_granted(path));
            lacking.extend(paths.map(|path| format!("{doing} {}", path.display())));
        }
        if !granted.connects_anywhere {
            let ports = self.connect.difference(&granted.connect);
            lacking.extend(ports.map(|port| format!("connecting to port {port}")));
            lacking.extend(self.connects_anywhere.then(|| "connecting to any port".to_owned()));
        }
        lacking.extend(self.listen.difference(&granted.listen).map(|port| format!("listening on port {port}")));
        lacking
    }

    /// The capabilities that it needs.
    pub(super) fn capabilities(&self) -> Keep<'_> {
        if self.reads_all { Keep::Reading(&self.written) } else { Keep::Nothing }
    }

    fn add_data(&mut self, data_dir: &Path) {
        self.own.extend(real(data_dir));
        self.written.insert(data_dir.to_owned());
        self.written.extend(fs::read_dir(data_dir).into_iter().flatten().flatten().map(|entry| entry.path()));
    }

    /// Compiling a plugin is running this program once more.
    fn add_program(&mut self) {
        // By the link of its process: the name may be another file's by now.
        let program = Path::new("/proc/self/exe");
        self.run.insert(program.to_owned());
        self.read.insert("/etc/ld.so.cache".into());
        let program = real(program);
        let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
        let mapped = maps.lines().filter_map(|line| line.find('/').map(|path| Path::new(&line[path..])));
        for library in mapped.filter_map(real).filter(|path| Some(path) != program.as_ref()) {
            // Its directory, as an update puts another file in its place.
            self.run.extend(library.parent().filter(|dir| !is_system(dir)).map(Path::to_owned));
        }
    }

    /// A root may be deleted and made again, or come later: its parent is granted, where that is not too much.
    fn add_root(&mut self, root: &Path) {
        let real_root = real(root);
        let parent = nearest(root.parent().unwrap_or(root));
        let parents = [Some(parent), real_root.as_deref().and_then(Path::parent).map(Path::to_owned)];
        for parent in parents.into_iter().flatten() {
            match &real_root {
                Some(root) if is_system(&parent) => self.read.insert(root.clone()),
                _ => self.read.insert(parent.clone()),
            };
            if real_root.is_none() && parent == Path::new("/") {
                let root = root.display();
                self.gaps.push(format!("reading files: the root {root} is not there, and neither is what is above it"));
            }
        }
    }

    fn add_plugins(&mut self, dir: &Path) {
        self.read.extend(real(dir));
        // A link in it may lead elsewhere.
        for file in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if file.is_symlink() && file.extension().is_some_and(|extension| extension == "wasm") {
                self.read.extend(real(&file));
            }
        }
    }

    /// A file that may be replaced by another.
    fn add_with_directory(&mut self, path: &Path) {
        self.read.extend(real(path));
        self.read.extend(path.parent().and_then(real).filter(|dir| !is_system(dir)));
    }

    /// What a sink on the network needs for a logstore.
    fn add_network(&mut self, sink: &Sink, name: &LogstoreName) {
        let Some(network) = sink.network() else { return };
        let identity = network.tls.identity.iter().flat_map(|(cert, key)| [cert, key]);
        for file in network.tls.ca.iter().chain(identity).chain(sink.secret_files()) {
            self.add_with_directory(file);
        }
        self.read.extend(RESOLVER.iter().chain(&ROOTS).filter_map(real));
        self.read.extend(["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(std::env::var_os).filter_map(real));
        match sink.ports(name) {
            Some(ports) if network.proxy.is_none() && !PROXIES.iter().any(|name| std::env::var_os(name).is_some()) => {
                // Names with many addresses are looked up by TCP.
                self.connect.extend(ports.into_iter().chain([53]));
            }
            _ => self.connects_anywhere = true,
        }
    }

    /// What is the same for all logstores of the sink; where that is not more than one would give, each by itself.
    fn add_output(&mut self, sink: &File, file: &Path) {
        // A device, a pipe, or a link to something elsewhere.
        if fs::symlink_metadata(file).is_ok_and(|meta| !meta.is_file()) {
            self.write.insert(file.to_owned());
        }
        let (rotates, is_dated) = (sink.rotate.is_some(), sink.path.is_dated());
        let fixed = sink.path.directory();
        // Of a path with a date no more is known of tomorrow's.
        let own = if is_dated { &fixed } else { file.parent().unwrap_or(file) };
        for directory in [&*fixed, own] {
            // If it can't be made, the sink says so, and tries again.
            let _ = fs::create_dir_all(directory);
            let (is_last, directory) = (own == directory, nearest(directory));
            let must_be = (rotates || is_dated) && is_last;
            if !is_system(&directory) || must_be {
                if is_system(&directory) {
                    let why = if rotates { "is rotated" } else { "has a date in its name" };
                    let what = sink.path.directory();
                    self.gaps.push(format!("writing files: all of {}, as a sink's file in it {why}", what.display()));
                }
                self.written.extend((rotates || is_dated).then(|| directory.clone()));
                if rotates {
                    self.rotate.insert(directory)
                } else {
                    self.write.insert(directory)
                };
                break;
            }
            if is_last {
                let _ = fs::OpenOptions::new().create(true).append(true).custom_flags(NONBLOCK).open(file);
                self.write.extend(real(file));
            }
        }
        self.written.insert(if file.exists() { file.to_owned() } else { nearest(file) });
    }
}

/// A path without links, of something that is there.
fn real(path: impl AsRef<Path>) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

/// The real path of the nearest directory that is there, upwards.
fn nearest(path: &Path) -> PathBuf {
    let existing = path.ancestors().find(|path| path.is_dir());
    existing.and_then(real).unwrap_or_else(|| "/".into())
}

fn is_system(dir: &Path) -> bool {
    SYSTEM.iter().any(|system| Path::new(system) == dir)
}
