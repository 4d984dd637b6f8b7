//! What is in `deploy/`: manifests that Kubernetes takes and that agree with the configurations in them, and the image,
//! whose file system runs here without an engine.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Permissions};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use serde_json::{Value, json};
use weir::config::{self, Config, Loaded, Sink, units};

use crate::confine::children;
use crate::harness::{POLL, Site, access_log, binary, cache_home, parse, plugins, repository};
use crate::servers::{Server, certificates, python};

/// Nothing here takes nearly as long on an idle machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// The image's user.
const USER: u32 = 65532;

/// The image's variable.
const ENV: (&str, &str) = ("XDG_CACHE_HOME", "/var/lib/weir/tools");

const CONFIG_DIR: &str = "/etc/weir/config";

/// The plugins of the image: all that weir ships.
fn shelf() -> BTreeSet<String> {
    let crates = fs::read_dir(repository().join("plugins")).unwrap().map(|entry| entry.unwrap());
    let crates = crates.filter(|entry| entry.path().join("Cargo.toml").exists());
    crates.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

/// The files of `deploy/` with that beginning of their path, and without what only Kustomize reads.
fn manifests(below: &str) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![repository().join("deploy").join(below)]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "yaml") && !path.ends_with("kustomization.yaml")
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Has `tests/deploy/manifests.py` check these, or what is given to it, and gives the objects in them.
fn checked(files: &[PathBuf], stdin: &[u8]) -> Result<Vec<Value>, String> {
    let mut command = python(&repository().join("tests/deploy/manifests.py"));
    let command = match files {
        [] => command.arg("-"),
        files => command.args(files),
    };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let documents: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    Ok(documents.into_iter().map(|mut document| document["object"].take()).collect())
}

/// Deployments, jobs and the like, each with the objects that are beside it.
struct Workload {
    name: String,
    pod: Value,
    objects: Vec<Value>,
}

fn workload(mode: &str) -> Workload {
    let objects = checked(&manifests(mode), b"").unwrap();
    let mut pods = objects.iter().filter(|object| object["spec"]["template"].is_object());
    let pod = pods.next().unwrap()["spec"]["template"]["spec"].clone();
    assert!(pods.next().is_none(), "{mode} has several workloads");
    Workload { name: mode.to_owned(), pod, objects }
}

fn workloads() -> Vec<Workload> {
    ["sidecar", "native-sidecar", "job", "node"].map(workload).into()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not text: {value}"))
}

impl Workload {
    fn containers(&self) -> impl Iterator<Item = &Value> {
        list(&self.pod["initContainers"]).iter().chain(list(&self.pod["containers"]))
    }

    fn weir(&self) -> &Value {
        self.containers().find(|container| container["name"] == "weir").unwrap()
    }

    fn others(&self) -> impl Iterator<Item = &Value> {
        self.containers().filter(|container| container["name"] != "weir")
    }

    fn args(&self) -> Vec<String> {
        list(&self.weir()["args"]).iter().map(|arg| text(arg).to_owned()).collect()
    }

    /// The variables of weir's container. Where a value comes from the cluster, it is what it comes from.
    fn env(&self) -> BTreeMap<String, String> {
        let value = |variable: &Value| match variable["value"].as_str() {
            Some(value) => value.to_owned(),
            None => match &variable["valueFrom"]["fieldRef"]["fieldPath"] {
                Value::String(field) => format!("<{field}>"),
                _ => {
                    let secret = &variable["valueFrom"]["secretKeyRef"];
                    format!("{}-of-{}-that-is-long-enough", text(&secret["key"]), text(&secret["name"]))
                }
            },
        };
        let env = list(&self.weir()["env"]).iter();
        env.map(|variable| (text(&variable["name"]).to_owned(), value(variable))).collect()
    }

    /// What is mounted, by the path, as the volume's name and whether it is read-only.
    fn mounts(container: &Value) -> BTreeMap<PathBuf, (&str, bool)> {
        let mount = |mount: &'_ Value| mount["readOnly"].as_bool().unwrap_or(false);
        let mounts = list(&container["volumeMounts"]).iter();
        mounts.map(|one| (text(&one["mountPath"]).into(), (one["name"].as_str().unwrap(), mount(one)))).collect()
    }

    /// The text of the configuration that is mounted.
    fn configuration(&self) -> &str {
        let mounts = Self::mounts(self.weir());
        let (volume, is_read_only) = mounts[Path::new(CONFIG_DIR)];
        assert!(is_read_only);
        let volume = list(&self.pod["volumes"]).iter().find(|one| one["name"] == volume).unwrap();
        let name = &volume["configMap"]["name"];
        let map =
            self.objects.iter().find(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"] == *name);
        text(&map.unwrap_or_else(|| panic!("no ConfigMap {name}"))["data"]["weir.yaml"])
    }

    fn config(&self) -> Config {
        let env = self.env();
        let file = format!("{CONFIG_DIR}/weir.yaml");
        assert_eq!(env["WEIR_CONFIG"], file);
        let Loaded { config, warnings } =
            config::parse(self.configuration(), &file, &|name| env.get(name).cloned()).unwrap();
        assert_eq!(warnings, [], "{}", self.name);
        config
    }
}

/// The mount that a path is below.
fn mount_of<'a>(mounts: &BTreeMap<PathBuf, (&'a str, bool)>, path: &Path) -> Option<(&'a str, bool)> {
    path.ancestors().find_map(|path| mounts.get(path)).copied()
}

#[test]
fn kubernetes_takes_every_manifest() {
    let objects = checked(&manifests(""), b"").unwrap();
    let kinds: BTreeSet<_> = objects.iter().map(|object| text(&object["kind"])).collect();
    assert!(
        kinds.is_superset(
            &["ConfigMap", "DaemonSet", "Deployment", "Job", "PodMonitor", "Secret", "ServiceAccount"].into()
        ),
        "{kinds:?}"
    );
    // And what it would not take is found.
    let text = fs::read_to_string(repository().join("deploy/sidecar/deployment.yaml")).unwrap();
    let wrong = text.replacen("readOnly:", "readOnyl:", 1);
    let said = checked(&[], wrong.as_bytes()).unwrap_err();
    assert!(said.contains("Deployment, by Kubernetes 1.30: ") && said.contains("readOnyl"), "{said}");
    let twice = checked(&[], b"apiVersion: v1\nkind: ConfigMap\nkind: Secret\n").unwrap_err();
    assert!(twice.contains("there twice: {'kind'}"), "{twice}");
}

#[test]
fn what_weir_reads_and_writes_is_mounted() {
    for workload in workloads() {
        let (name, config, weir) = (&workload.name, workload.config(), workload.weir());
        let mounts = Workload::mounts(weir);
        assert!(mount_of(&mounts, &config.data_dir).is_some_and(|(_, is_read_only)| !is_read_only), "{name}: data_dir");
        for logstore in &config.logstores {
            let root = &logstore.files.root;
            let (volume, is_read_only) =
                mount_of(&mounts, root).unwrap_or_else(|| panic!("{name}: {root:?} is not mounted"));
            assert!(is_read_only, "{name}: {root:?}");
            // Whoever writes there sees it by the same path.
            for other in workload.others() {
                let theirs = Workload::mounts(other);
                assert_eq!(mount_of(&theirs, root), Some((volume, false)), "{name}: {root:?} of {}", other["name"]);
            }
            let groups = workload.env().get("WEIR_MACHINE_GROUP").cloned();
            let runs = logstore.machine_groups.iter().all(|group| groups.as_ref() == Some(group));
            assert!(runs, "{name}: {} is for no agent of {groups:?}", logstore.name);
        }
        let args = workload.args();
        if let Some(option) = args.iter().position(|arg| arg == "--exit-with") {
            let tombstone = Path::new(&args[option + 1]);
            let shared = workload.others().next().unwrap();
            assert!(mount_of(&mounts, tombstone).is_some());
            assert_eq!(
                mount_of(&Workload::mounts(shared), tombstone).map(|(_, is_read_only)| is_read_only),
                Some(false)
            );
            let script = list(&shared["command"]).last().unwrap();
            assert!(text(script).contains(&format!("trap 'touch {}' EXIT", tombstone.display())));
        }
        for sink in config.sinks.values() {
            assert!(!matches!(sink, Sink::File(_)), "{name}: a file in the pod goes with it");
        }
        let volumes = |of: &Value| list(of).iter().map(|one| text(&one["name"]).to_owned()).collect::<BTreeSet<_>>();
        let used: BTreeSet<_> = workload.containers().flat_map(|one| volumes(&one["volumeMounts"])).collect();
        assert_eq!(
            used,
            volumes(&workload.pod["volumes"]),
            "{name}: volumes that are mounted, and those that are there"
        );
    }
}

#[test]
fn no_manifest_gives_weir_more_than_it_needs() {
    for workload in workloads() {
        let (name, weir, pod) = (&workload.name, workload.weir(), &workload.pod);
        let context = &weir["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{name}");
        match &**name {
            // The runtime's files are root's.
            "node" => assert_eq!(context["capabilities"]["add"], json!(["DAC_READ_SEARCH"])),
            _ => {
                assert_eq!((&context["runAsNonRoot"], &context["runAsUser"]), (&json!(true), &json!(USER)), "{name}");
                assert_eq!(pod["securityContext"]["fsGroup"], json!(USER), "{name}");
            }
        }
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert!(weir["resources"]["requests"]["cpu"].is_string() && weir["resources"]["limits"]["memory"].is_string());
        assert_eq!(weir["livenessProbe"]["exec"]["command"], json!(["/usr/bin/weir", "health"]), "{name}");
        // All that it does when it is told to end fits into the time that the pod has.
        let args = workload.args();
        let grace = &args[args.iter().position(|arg| arg == "--grace").unwrap() + 1];
        let sleep = weir["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
        let all = units::parse_duration(grace).unwrap().as_secs() + sleep + 2;
        assert!(all <= pod["terminationGracePeriodSeconds"].as_u64().unwrap(), "{name}: {all} s");
    }
    let objects = checked(&manifests(""), b"").unwrap();
    let secrets = objects.iter().filter(|object| object["kind"] == "Secret");
    let values = secrets.flat_map(|secret| secret["stringData"].as_object().unwrap().values());
    assert!(
        values.clone().count() > 0 && values.into_iter().all(|value| value == ""),
        "a secret is known to everybody"
    );
    let roles = objects.iter().filter(|object| text(&object["kind"]).contains("Role"));
    assert_eq!(roles.count(), 0, "weir asks the API server nothing");
}

#[test]
fn kustomizations_render_what_is_there() {
    let kubectl = Command::new("kubectl").args(["version", "--client"]).stderr(Stdio::null()).output();
    if !kubectl.is_ok_and(|output| output.status.success()) {
        return skip("there is no kubectl to render kustomizations with");
    }
    let named = |objects: &[Value]| -> BTreeMap<(String, String), Value> {
        let name = |object: &Value| (text(&object["kind"]).to_owned(), text(&object["metadata"]["name"]).to_owned());
        objects.iter().map(|object| (name(object), object.clone())).collect()
    };
    for mode in ["sidecar", "native-sidecar", "job", "node", "overlays/monitoring"] {
        let dir = repository().join("deploy").join(mode);
        let output = Command::new("kubectl").arg("kustomize").arg(dir).output().unwrap();
        assert!(output.status.success(), "{mode}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{mode}");
        let rendered = checked(&[], &output.stdout).unwrap();
        let expected = match mode {
            "overlays/monitoring" => {
                let files = [manifests("node"), manifests("podmonitor")].concat();
                let mut objects = checked(&files, b"").unwrap();
                let mut images =
                    objects.iter_mut().filter_map(|one| one.pointer_mut("/spec/template/spec/containers/0/image"));
                *images.next().unwrap() = json!("registry.example/weir:0.1.0");
                objects
            }
            mode => workload(mode).objects,
        };
        assert_eq!(named(&rendered), named(&expected), "{mode}");
    }
}

/// Says why a test does nothing, whatever the test runner hides.
fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Whether containers can be run here, which is said if not.
fn has_namespaces() -> bool {
    if !geteuid().is_root() {
        skip("only root can run the image's file system in namespaces of its own");
        return false;
    }
    let made = Command::new("unshare").args(["--mount", "--pid", "--fork", "true"]).output();
    assert!(made.is_ok_and(|output| output.status.success()), "there are no namespaces, or there is no unshare");
    true
}

/// The image's file system, as the Dockerfile makes it.
fn image() -> &'static Path {
    static IMAGE: OnceLock<PathBuf> = OnceLock::new();
    IMAGE.get_or_init(|| {
        let image = cache_home().join("image");
        let _ = fs::remove_dir_all(&image);
        let mut command = Command::new(repository().join("deploy/rootfs.sh"));
        command.arg(&image).arg(binary());
        command.args(shelf().iter().map(|name| plugins().join(format!("{name}.wasm"))));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        image
    })
}

/// A container: namespaces of its own, the image as its root, read-only, and some mounts.
struct Container {
    /// Commands that mount something, to be run by a shell where `$root` is.
    mounts: String,
    user: u32,
}

impl Container {
    /// One with what a runtime always mounts, and the image's user.
    fn new() -> Container {
        let mounts = "mkdir -p \"$root/proc\" \"$root/dev\"
            mount -t proc proc \"$root/proc\"
            mount -t tmpfs none \"$root/dev\"
            touch \"$root/dev/null\"
            mount --bind /dev/null \"$root/dev/null\"\n";
        Container { mounts: mounts.to_owned(), user: USER }
    }

    /// A directory of the host.
    fn mount(mut self, host: &Path, inside: &str, is_read_only: bool) -> Self {
        let target = format!("\"$root{inside}\"");
        self.mounts += &format!("mkdir -p {target}\nmount --bind {host:?} {target}\n");
        if is_read_only {
            self.mounts += &format!("mount -o remount,bind,ro {target}\n");
        }
        self
    }

    /// An empty directory, as the kubelet makes it for a pod with an `fsGroup`.
    fn empty_dir(mut self, inside: &str) -> Self {
        self.mounts +=
            &format!("mkdir -p \"$root{inside}\"\nmount -t tmpfs -o mode=2777,gid={USER} none \"$root{inside}\"\n");
        self
    }

    /// Starts weir in it.
    fn start(&self, site: &Site, args: &[impl AsRef<str>], env: &BTreeMap<String, String>) -> Running {
        let root = site.path("root");
        let _ = fs::remove_dir_all(&root);
        // Where mounts are put is made there, and not in the image.
        let copied = Command::new("cp").arg("-al").arg(image()).arg(&root).status().unwrap();
        assert!(copied.success());
        let script = format!(
            "root=$1; shift\nmount --bind \"$root\" \"$root\"\n{}mount -o remount,bind,ro \"$root\"\n\
             exec chroot --userspec={user}:{user} --groups={user} \"$root\" /usr/bin/weir \"$@\"",
            self.mounts,
            user = self.user
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-euc", &script, "sh"]).arg(root);
        command
            .args(args.iter().map(AsRef::as_ref))
            .env_clear()
            .env(ENV.0, ENV.1)
            .envs(env)
            .env("PATH", std::env::var_os("PATH").unwrap());
        let file = |name: &str| File::create(site.path(name)).unwrap();
        let child = command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap();
        Running { child, stderr: site.path("stderr") }
    }
}

/// A container that runs. Dropped, it is killed.
struct Running {
    child: Child,
    stderr: PathBuf,
}

impl Running {
    fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    #[track_caller]
    fn wait(&mut self, what: &str, mut is_so: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            let status = self.child.try_wait().unwrap();
            assert!(status.is_none(), "it ended with {status:?} before {what}; it said:\n{}", self.said());
            assert!(begun.elapsed() < DEADLINE, "no {what} after {DEADLINE:?}; it said:\n{}", self.said());
            thread::sleep(POLL);
        }
    }

    /// What another command of the image says in the same container, as a probe's does: its code and its words.
    fn exec(&self, command: &[&str], env: &BTreeMap<String, String>) -> (Option<i32>, String) {
        let pid = self.pid().to_string();
        let user = USER.to_string();
        let mut entered = Command::new("nsenter");
        entered.args(["--target", &pid, "--mount", "--pid", "--root", "--setuid", &user, "--setgid", &user]);
        let output = entered.args(command).env_clear().env(ENV.0, ENV.1).envs(env);
        let output = output.env("PATH", std::env::var_os("PATH").unwrap()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// The number of its first process, as it is outside.
    fn pid(&self) -> i32 {
        children(self.child.id())[0]
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "it does not end; it said:\n{}", self.said());
            thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_image_is_what_the_script_makes() {
    let dockerfile = fs::read_to_string(repository().join("deploy/Dockerfile")).unwrap();
    let (build, last) = dockerfile.rsplit_once("\nFROM ").unwrap();
    assert!(build.contains("RUN deploy/rootfs.sh /image target/release/weir /plugins/*.wasm\n"), "{build}");
    let last: Vec<_> = last.lines().filter(|line| !line.starts_with('#')).collect();
    let expected = [
        "scratch",
        "COPY --from=build /image /",
        &format!("ENV {}={}", ENV.0, ENV.1),
        &format!("USER {USER}:{USER}"),
        "ENTRYPOINT [\"/usr/bin/weir\"]",
        "CMD [\"run\"]",
    ];
    assert_eq!(last, expected);
    if geteuid().is_root() {
        let files = Command::new("find").arg(image()).args(["-type", "f", "-printf", "%P\n"]).output().unwrap();
        let files = String::from_utf8(files.stdout).unwrap();
        let others: Vec<_> = files.lines().filter(|file| !file.contains(".so")).collect();
        let mut expected: Vec<_> = shelf().iter().map(|name| format!("usr/lib/weir/plugins/{name}.wasm")).collect();
        expected.extend(["usr/bin/weir", "etc/ssl/certs/ca-certificates.crt", "etc/nsswitch.conf"].map(str::to_owned));
        assert_eq!(others.into_iter().collect::<BTreeSet<_>>(), expected.iter().map(String::as_str).collect());
        // The Dockerfile builds what is in that directory, and no more is there than these.
        assert!(build.contains("RUN target/release/weir plugin build plugins/* --out /plugins\n"), "{build}");
        assert_eq!(fs::read_dir(repository().join("plugins")).unwrap().count(), shelf().len());
    }
}

#[test]
fn the_image_reads_and_delivers_as_nobody_with_a_read_only_root() {
    if !has_namespaces() {
        return;
    }
    let site = Site::new();
    let log = String::from_utf8(access_log(2000)).unwrap();
    let (first, second) = log.split_at(log.match_indices('\n').nth(999).unwrap().0 + 1);
    site.write("logs/access.log", first);
    fs::create_dir(site.path("out")).unwrap();
    chown(site.path("out"), Some(USER), Some(USER)).unwrap();
    site.write(
        "config/weir.yaml",
        "logstores:
  - name: a/b
    files: { root: /var/log/app, poll_interval: 20ms }
    plugins: [{ use: nginx, settings: { format: main } }]
    sink: out
sinks:
  out: { type: file, path: \"/out/{project}/{logstore}.ndjson\" }
",
    );
    let container = Container::new()
        .mount(&site.path("logs"), "/var/log/app", true)
        .mount(&site.path("config"), CONFIG_DIR, true)
        .mount(&site.path("out"), "/out", false)
        .empty_dir("/var/lib/weir");
    let args = ["run", "-c", "/etc/weir/config/weir.yaml", "--summary", "/out/summary.json"];
    let mut agent = container.start(&site, &args, &BTreeMap::new());
    let lines = || site.ndjson("a/b").iter().filter(|byte| **byte == b'\n').count();
    agent.wait("1000 events", || lines() == 1000);
    site.append("logs/access.log", second);
    agent.wait("2000 events", || lines() == 2000);

    let pid = agent.pid();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for expected in ["Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.lines().any(|line| line == expected), "no {expected:?} in {status}");
    }
    assert!(status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1")), "{status}");
    let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
    assert!(mounts.lines().any(|line| line.split(' ').nth(4) == Some("/") && line.contains(" / ro,")), "{mounts}");
    assert!(agent.said().contains(" confined: "), "{}", agent.said());

    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert!(agent.end().success(), "{}", agent.said());
    let events = site.events("a/b");
    let uris = |events: &[Value]| events.iter().map(|event| event["request_uri"].clone()).collect::<Vec<_>>();
    assert_eq!((events.len(), uris(&events).iter().filter(|uri| uri.is_string()).count()), (2000, 2000));
    let summary: Value = serde_json::from_slice(&fs::read(site.path("out/summary.json")).unwrap()).unwrap();
    let counts = &summary["logstores"]["a/b"];
    assert_eq!((&counts["read"], &counts["delivered"], &counts["in_flight"]), (&json!(2000), &json!(2000), &json!(0)));
}

/// A container with what the manifests of a mode mount: the configuration, an empty `data_dir`, the logs, and certificates
/// in place of secrets.
fn of_workload(site: &Site, workload: &Workload, logs: &str) -> Container {
    // Here all containers have the same ports.
    site.write("config/weir.yaml", workload.configuration().replace(":9480", ":0"));
    let config = workload.config();
    let mut container = Container::new()
        .mount(&site.path(logs), config.logstores[0].files.root.to_str().unwrap(), true)
        .mount(&site.path("config"), CONFIG_DIR, true)
        .empty_dir(config.data_dir.to_str().unwrap());
    for (file, path) in
        [("tls.crt", &certificates().server), ("tls.key", &certificates().server_key), ("ca.crt", &certificates().ca)]
    {
        site.write(&format!("secret/{file}"), fs::read(path).unwrap());
    }
    let volumes = list(&workload.pod["volumes"]).iter();
    let secrets: Vec<_> = volumes.filter(|volume| volume["secret"].is_object()).map(|volume| &volume["name"]).collect();
    for (path, (volume, _)) in Workload::mounts(workload.weir()) {
        if secrets.iter().any(|name| **name == volume) {
            container = container.mount(&site.path("secret"), path.to_str().unwrap(), true);
        }
    }
    container
}

#[test]
fn each_configuration_passes_the_check_of_the_image() {
    let workloads = workloads();
    let with_weir = |object: &&Value| object["data"]["weir.yaml"].is_string();
    let objects = checked(&manifests(""), b"").unwrap();
    let maps = objects.iter().filter(with_weir).count();
    assert_eq!(maps, workloads.len(), "each ConfigMap is a workload's");
    let is_root = has_namespaces();
    for workload in workloads {
        let site = Site::new();
        let status = if is_root {
            of_workload(&site, &workload, "logs").start(&site, &["check"], &workload.env()).end()
        } else {
            site.write("weir.yaml", workload.configuration());
            let mut command = site.weir(["check", "-c", "weir.yaml", "--no-plugins"]);
            let file = |name: &str| File::create(site.path(name)).unwrap();
            command.envs(workload.env()).stdout(file("stdout")).stderr(file("stderr")).status().unwrap()
        };
        let said = fs::read_to_string(site.path("stderr")).unwrap();
        assert!(status.success(), "{}: {said}", workload.name);
        // All its roots are mounted.
        assert!(said.is_empty() || !is_root, "{}: {said}", workload.name);
    }
}

/// The job's main container: its command, in namespaces of its own, with the logs where the manifest mounts them.
fn main_container(site: &Site, workload: &Workload, logs: &str) -> Child {
    let container = workload.others().next().unwrap();
    let (path, _) = Workload::mounts(container).pop_first().unwrap();
    let (parent, path) = (path.parent().unwrap(), &path);
    let script = format!(
        "mount -t tmpfs none {parent:?}; mkdir {path:?}; mount --bind {:?} {path:?}; cd /; exec \"$@\"",
        site.path(logs)
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-euc", &script, "sh"]);
    command.args(list(&container["command"]).iter().map(text)).stdin(Stdio::null()).spawn().unwrap()
}

/// A directory as the kubelet makes it for several containers.
fn shared(site: &Site, name: &str) {
    fs::create_dir_all(site.path(name)).unwrap();
    chown(site.path(name), None, Some(USER)).unwrap();
    fs::set_permissions(site.path(name), Permissions::from_mode(0o2777)).unwrap();
}

/// What listens nowhere else for a moment.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_probes_of_each_manifest_say_in_its_container_how_it_is() {
    if !has_namespaces() {
        return;
    }
    for workload in workloads() {
        let (site, port) = (Site::new(), free_port());
        shared(&site, "shared");
        let container = Container {
            user: if workload.name == "node" { 0 } else { USER },
            ..of_workload(&site, &workload, "shared")
        };
        // Where the manifest's agent listens, but for the port: here all containers have the same ones.
        let written = fs::read_to_string(site.path("config/weir.yaml")).unwrap();
        assert!(written.contains(":0"), "{written}");
        site.write("config/weir.yaml", written.replace(":0", &format!(":{port}")));
        let env = workload.env();
        let mut agent = container.start(&site, &workload.args(), &env);
        let stderr = site.path("stderr");
        agent
            .wait("an agent that runs", || fs::read_to_string(&stderr).unwrap().contains(" the admin server listens "));
        for (probe, answer) in [("livenessProbe", "alive"), ("readinessProbe", "ready")] {
            let weir = workload.weir();
            let Some(command) = weir[probe]["exec"]["command"].as_array() else { continue };
            let command: Vec<_> = command.iter().map(text).collect();
            let (code, said) = agent.exec(&command, &env);
            assert_eq!(
                (code, said.split([':', '\n']).next()),
                (Some(0), Some(answer)),
                "{} {probe}: {said}",
                workload.name
            );
        }
        let probe = ["/usr/bin/weir", "health"];
        assert_eq!(agent.exec(&probe, &env).0, Some(0));
        // One that stands still does not answer in time.
        let pid = Pid::from_raw(agent.pid()).unwrap();
        kill_process(pid, Signal::STOP).unwrap();
        let (code, said) = agent.exec(&probe, &env);
        kill_process(pid, Signal::CONT).unwrap();
        assert_eq!(code, Some(1), "{}: {said}", workload.name);
        assert!(said.ends_with(" does not answer within 2 s\n"), "{}: {said}", workload.name);
        kill_process(pid, Signal::TERM).unwrap();
        assert!(agent.end().success(), "{}", agent.said());
    }
}

#[test]
fn a_job_and_its_sidecar_both_end_and_everything_is_delivered() {
    if !has_namespaces() {
        return;
    }
    let workload = workload("job");
    // Whichever is first.
    for agent_is_first in [true, false] {
        let site = Site::new();
        shared(&site, "shared");
        let container = of_workload(&site, &workload, "shared");
        let start = || container.start(&site, &workload.args(), &workload.env());
        let early = agent_is_first.then(start);
        let mut main = main_container(&site, &workload, "shared");
        let mut agent = early.unwrap_or_else(|| {
            assert!(main.wait().unwrap().success());
            start()
        });
        assert!(agent.end().success(), "{}", agent.said());
        assert!(main.wait().unwrap().success());
        assert!(site.path("shared/finished").exists());

        let events = parse(&fs::read(site.path("stdout")).unwrap());
        let uris: Vec<_> = events.iter().map(|event| text(&event["request_uri"]).to_owned()).collect();
        let expected: Vec<_> = (1..=1000).map(|number| format!("/item/{number}")).collect();
        assert!(uris == expected, "some are lost, doubled or out of order; it said:\n{}", agent.said());
        let mut tags = events[999]["__tags__"].clone();
        assert!(tags.as_object_mut().unwrap().remove("host").is_some());
        let expected = json!({
            "path": "/var/log/nginx/access.log",
            "_pod_name_": "<metadata.name>", "_pod_ip_": "<status.podIP>", "_namespace_": "<metadata.namespace>",
            "_node_name_": "<spec.nodeName>", "_node_ip_": "<status.hostIP>",
        });
        assert_eq!(tags, expected);
    }
}

#[test]
fn a_native_sidecar_delivers_what_was_written_before_it_is_told_to_end() {
    if !has_namespaces() {
        return;
    }
    let (site, workload) = (Site::new(), workload("native-sidecar"));
    shared(&site, "shared");
    let container = of_workload(&site, &workload, "shared");
    let mut agent = container.start(&site, &workload.args(), &workload.env());
    let stderr = site.path("stderr");
    agent.wait("an agent that runs", || fs::read_to_string(&stderr).unwrap().contains(" running "));
    // As soon as the main container has ended, it is told to end too.
    assert!(main_container(&site, &self::workload("job"), "shared").wait().unwrap().success());
    kill_process(Pid::from_raw(agent.pid()).unwrap(), Signal::TERM).unwrap();
    assert!(agent.end().success(), "{}", agent.said());
    let events = parse(&fs::read(site.path("stdout")).unwrap());
    let uris: Vec<_> = events.iter().map(|event| text(&event["request_uri"]).to_owned()).collect();
    assert!(uris == (1..=1000).map(|number| format!("/item/{number}")).collect::<Vec<_>>(), "{}", agent.said());
}

#[test]
fn an_agent_of_a_node_sends_each_namespace_to_its_own_tenant() {
    if !has_namespaces() {
        return;
    }
    let (site, server) = (Site::new(), Server::start("loki", &["--tenants"]));
    let workload = workload("node");
    let line = |number: u32, content: &str| format!("2026-01-02T03:04:05.{number:09}Z stdout F {content}\n");
    let pods = [("shop", "web-0", "{\"number\":1}"), ("billing", "job-x", "two"), ("shop", "web-1", "{\"number\":3}")];
    for (number, (namespace, pod, content)) in pods.into_iter().enumerate() {
        let path = format!("pods/{namespace}_{pod}_0a1b-{number}/main/0.log");
        site.write(&path, line(number as u32, content));
        // As a runtime writes them.
        fs::set_permissions(site.path(path), Permissions::from_mode(0o640)).unwrap();
    }
    site.write("pods/other_x_0a1b-9/main/0.log", line(9, "nobody's"));
    let mut env = workload.env();
    env.insert("LOKI_URL".to_owned(), format!("http://127.0.0.1:{}", server.port));
    let container = Container { user: 0, ..of_workload(&site, &workload, "pods") };
    let mut agent = container.start(&site, &workload.args(), &env);
    agent.wait("three events", || server.events().len() == 3);
    kill_process(Pid::from_raw(agent.pid()).unwrap(), Signal::TERM).unwrap();
    assert!(agent.end().success(), "{}", agent.said());

    let tenant = |event: &crate::servers::Event| {
        let labels = ["namespace", "pod"].map(|name| event.tags[name].as_str().unwrap_or("none").to_owned());
        (event.to["tenant"].as_str().unwrap_or("none").to_owned(), labels)
    };
    let mut found: Vec<_> = server.events().iter().map(tenant).collect();
    found.sort();
    let expected = [("billing", "job-x"), ("shop", "web-0"), ("shop", "web-1")];
    let expected = expected.map(|(namespace, pod)| (namespace.to_owned(), [namespace, pod].map(str::to_owned)));
    assert_eq!(found, expected);
}
