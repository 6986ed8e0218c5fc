//! config/kubernetes.yaml: its parts fit together, and three nodes run on what it says.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::super::support::command::{anabranch, anabranch_in};
use super::super::support::http::{self, Reply};
use super::super::support::process::Process;
use super::super::support::temp::TempDir;
use super::super::support::{ANABRANCH, exit, ports, wait_for};
use super::{file, is_typed_rightly, list, manifest, named, object, stop_seconds, text};

/// What `openssl rand -hex 32` would print.
const TOKEN: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn pod(set: &Value) -> &Value {
    &set["spec"]["template"]["spec"]
}

/// The pods' names.
fn names(set: &Value) -> Vec<String> {
    let replicas = set["spec"]["replicas"].as_u64().unwrap();
    let name = text(&set["metadata"]["name"]);
    (0..replicas).map(|i| format!("{name}-{i}")).collect()
}

/// The port of a container that a Service or a probe means.
fn port(container: &Value, name: &Value) -> u16 {
    let port = &named(&container["ports"], text(name))["containerPort"];
    port.as_u64().unwrap().try_into().unwrap()
}

fn configuration(manifest: &[Value]) -> String {
    let map = object(manifest, "ConfigMap", "anabranch");
    text(&map["data"]["node.toml"]).to_string()
}

#[test]
fn the_objects_name_each_other_rightly() {
    let manifest = manifest();
    let set = object(&manifest, "StatefulSet", "anabranch");
    let spec = &set["spec"];
    let labels = &spec["template"]["metadata"]["labels"];
    let headless = object(&manifest, "Service", text(&spec["serviceName"]));
    assert_eq!(headless["spec"]["clusterIP"], "None");
    assert_eq!(headless["spec"]["publishNotReadyAddresses"], true);
    let budget = object(&manifest, "PodDisruptionBudget", "anabranch");
    let callers = object(&manifest, "Service", "anabranch-ingress");
    for selector in [
        &headless["spec"]["selector"],
        &callers["spec"]["selector"],
        &budget["spec"]["selector"]["matchLabels"],
        &spec["selector"]["matchLabels"],
        &pod(&set)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ] {
        assert_eq!(selector, labels);
    }
    assert_eq!(budget["spec"]["maxUnavailable"], 1);

    let pod = pod(&set);
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > stop_seconds(), "{grace} s, {} s", stop_seconds());
    let volumes: BTreeSet<&str> = list(&pod["volumes"])
        .iter()
        .map(|volume| text(&volume["name"]))
        .chain(
            list(&spec["volumeClaimTemplates"])
                .iter()
                .map(|claim| text(&claim["metadata"]["name"])),
        )
        .collect();
    let containers = [&pod["initContainers"], &pod["containers"]];
    let containers: Vec<&Value> = containers.into_iter().flat_map(|c| list(c)).collect();
    let mut mounted = BTreeSet::new();
    for container in containers {
        let security = &container["securityContext"];
        assert_eq!(security["allowPrivilegeEscalation"], false, "{container}");
        assert_eq!(security["readOnlyRootFilesystem"], true, "{container}");
        assert_eq!(security["capabilities"]["drop"][0], "ALL", "{container}");
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        mounted.extend(mounts.map(|mount| text(&mount["name"])));
    }
    assert_eq!(mounted, volumes);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    // Whose the image's data directory is.
    let user = format!("USER {0}:{0}\n", pod["securityContext"]["runAsUser"]);
    assert!(file("config/Dockerfile").contains(&user));
    assert_eq!(named(&pod["volumes"], "config")["configMap"]["name"], "anabranch");
}

#[test]
fn the_ports_are_those_of_the_configuration() {
    let manifest = manifest();
    let set = object(&manifest, "StatefulSet", "anabranch");
    let node = named(&pod(&set)["containers"], "anabranch");
    let configuration: toml::Table = toml::from_str(&configuration(&manifest)).unwrap();
    let port_of = |value: &toml::Value| -> u16 {
        let (_, port) = value.as_str().unwrap().rsplit_once(':').unwrap();
        port.parse().unwrap()
    };
    for (name, value) in [
        ("quic", &configuration["listen"]),
        ("admin", &configuration["http"]["listen"]),
        ("ingress", &configuration["ingress"]["listen"]),
    ] {
        assert_eq!(port(node, &name.into()), port_of(value), "{name}");
    }
    for service in ["anabranch", "anabranch-ingress"] {
        let ports = object(&manifest, "Service", service)["spec"]["ports"].clone();
        for of_service in list(&ports) {
            let target = named(&node["ports"], text(&of_service["targetPort"]));
            assert_eq!(of_service["port"], target["containerPort"], "{service}");
            assert_eq!(of_service["protocol"], target["protocol"], "{service}");
        }
    }
    let seeds: Vec<String> = names(&set)
        .iter()
        .map(|name| format!("{name}.anabranch:{}", port_of(&configuration["listen"])))
        .collect();
    let written = configuration["seeds"].as_array().unwrap();
    assert_eq!(
        written
            .iter()
            .map(|seed| seed.as_str().unwrap())
            .collect::<Vec<_>>(),
        seeds
    );

    let function = named(&pod(&set)["initContainers"], "function");
    assert_eq!(function["restartPolicy"], "Always");
    let told = |name: &str| text(&named(&function["env"], name)["value"]).to_string();
    let address = format!("{}:{}", told("HOST"), told("PORT"));
    assert_eq!(
        configuration["function"]["address"].as_str(),
        Some(address.as_str())
    );
}

/// What the file's first comment has people type, one command a line.
fn recipe() -> Vec<Vec<String>> {
    let text = file("config/kubernetes.yaml");
    let lines = text.lines().map_while(|line| line.strip_prefix('#'));
    let typed: Vec<&str> = lines.filter_map(|line| line.strip_prefix("   ")).collect();
    let joined = typed.join("\n").replace("\\\n", " ");
    let commands = joined.lines().map(|line| line.split_whitespace());
    commands
        .map(|words| words.map(str::to_string).collect())
        .collect()
}

/// A manifest's pods on addresses of this machine, in place of a Kubernetes.
struct Pods {
    dir: TempDir,
    set: Value,
    configuration: String,
    names: Vec<String>,
    /// Of all pods but for the last byte.
    network: String,
}

impl Pods {
    /// Makes the secrets as the comment says.
    fn new() -> Pods {
        let manifest = manifest();
        let set = object(&manifest, "StatefulSet", "anabranch");
        let dir = TempDir::new("ops-pods");
        let secret = dir.join("secret");
        std::fs::create_dir_all(&secret).unwrap();
        let mut files = 0;
        for command in recipe() {
            match (command[0].as_str(), command[1].as_str()) {
                ("anabranch", _) => {
                    anabranch_in(dir.path(), &command[1..]).done();
                }
                ("kubectl", "create") => {
                    let wanted = ["anabranch-identity", "anabranch-token"];
                    assert!(wanted.contains(&command[4].as_str()), "{command:?}");
                    for word in &command {
                        let Some(file) = word.strip_prefix("--from-file=") else {
                            continue;
                        };
                        let (key, path) = file.split_once('=').unwrap();
                        std::fs::copy(dir.join(path), secret.join(key)).unwrap();
                        files += 1;
                    }
                }
                ("kubectl", "apply" | "exec") => {}
                _ => panic!("{command:?}"),
            }
        }
        let names = names(&set);
        assert_eq!(files, 1 + 2 * names.len());
        assert_eq!(
            named(&pod(&set)["volumes"], "identity")["secret"]["secretName"],
            "anabranch-identity"
        );
        // Loopback addresses that no other process has by chance: the pods have the same ports.
        let [_, _, a, b] = (std::process::id() | 0x4000).to_be_bytes();
        Pods {
            configuration: configuration(&manifest),
            network: format!("127.{a}.{b}"),
            dir,
            set,
            names,
        }
    }

    fn address(&self, i: usize) -> String {
        format!("{}.{}", self.network, i + 2)
    }

    /// What is mounted at /etc/anabranch.
    fn own(&self, i: usize) -> PathBuf {
        self.dir.join(format!("own-{i}"))
    }

    /// Runs the init container's script, with this machine's directories in place of those it mounts.
    fn configure(&self, i: usize) {
        let container = named(&pod(&self.set)["initContainers"], "configure");
        let command: Vec<&str> = list(&container["command"]).iter().map(text).collect();
        let [shell, "-c", script] = command[..] else {
            panic!("{command:?}")
        };
        let mounts = list(&container["volumeMounts"]).iter().map(|mount| {
            let path = match text(&mount["name"]) {
                "config" => self.dir.join("map"),
                "identity" => self.dir.join("secret"),
                "own" => self.own(i),
                other => panic!("{other}"),
            };
            (text(&mount["mountPath"]), path)
        });
        // In two steps: a directory of this machine may be named like one of theirs.
        let mounts: Vec<(&str, PathBuf)> = mounts.collect();
        let mut script = script.to_string();
        for (n, (at, _)) in mounts.iter().enumerate() {
            script = script.replace(&format!("{at}/"), &format!("\u{1}{n}/"));
        }
        for (n, (_, path)) in mounts.iter().enumerate() {
            script = script.replace(&format!("\u{1}{n}/"), &format!("{}/", path.display()));
        }
        self.dir.write("map/node.toml", &self.configuration);
        std::fs::create_dir_all(self.own(i)).unwrap();
        let mut command = Command::new(shell);
        command.args(["-c", &script]).env_clear();
        for variable in list(&container["env"]) {
            let from = &variable["valueFrom"];
            let value = match from["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.name") => self.names[i].clone(),
                Some("status.podIP") => self.address(i),
                other => {
                    assert_eq!(other, None);
                    assert_eq!(from["secretKeyRef"]["name"], "anabranch-token");
                    assert!(recipe().concat().contains(&format!(
                        "--from-literal={}=\"$(openssl",
                        text(&from["secretKeyRef"]["key"])
                    )));
                    TOKEN.to_string()
                }
            };
            command.env(text(&variable["name"]), value);
        }
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        Process::start("configure", &mut command).wait().done();
    }

    /// What the script has made of the configuration, with addresses and directories of this machine.
    fn adapt(&self, i: usize) {
        let path = self.own(i).join("node.toml");
        let mut text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains('@'), "{text}");
        let mut edit = |from: &str, to: &str, count: usize| {
            assert_eq!(text.matches(from).count(), count, "{from:?} in {text}");
            text = text.replace(from, to);
        };
        for (j, name) in self.names.iter().enumerate() {
            let seed = format!("\"{}:", self.address(j));
            edit(&format!("\"{name}.anabranch:"), &seed, 1);
        }
        let data = self.dir.join(format!("data-{i}"));
        edit("/var/lib/anabranch", data.to_str().unwrap(), 1);
        std::fs::create_dir_all(data).unwrap();
        edit("0.0.0.0", &self.address(i), 2);
        // Nobody is there: a node takes writes all the same.
        edit("127.0.0.1:8080", &ports::take().to_string(), 1);
        std::fs::write(path, text).unwrap();
    }

    fn container(&self) -> &Value {
        named(&pod(&self.set)["containers"], "anabranch")
    }

    /// The container's arguments.
    fn args(&self, own: &Path) -> Vec<String> {
        let args: Vec<&str> = list(&self.container()["args"]).iter().map(text).collect();
        is_typed_rightly(&args);
        args.iter()
            .map(|arg| arg.replace("/etc/anabranch", own.to_str().unwrap()))
            .collect()
    }

    fn start(&self, i: usize) -> Process {
        let mut command = Command::new(ANABRANCH);
        Process::start(self.names[i].clone(), command.args(self.args(&self.own(i))))
    }

    fn get(&self, i: usize, path: &str, headers: &[(&str, &str)]) -> Reply {
        let admin = format!("{}:{}", self.address(i), port(self.container(), &"admin".into()));
        http::request(&admin, "GET", path, headers, "").unwrap()
    }
}

#[test]
fn three_nodes_run_as_the_manifest_says() {
    let pods = Pods::new();
    let token = format!("Bearer {TOKEN}");
    let shown = [("Authorization", token.as_str())];
    for i in 0..pods.names.len() {
        pods.configure(i);
    }
    let alone = pods.dir.join("alone");
    std::fs::create_dir_all(&alone).unwrap();
    std::fs::copy(pods.own(0).join("node.toml"), alone.join("node.toml")).unwrap();
    // As it came from the script: nothing is wrong with it but that it has no certificate here.
    anabranch(pods.args(&alone)).failed(exit::IDENTITY, &["identity.ca", "there is no file"]);

    let mut nodes: Vec<Process> = (0..pods.names.len())
        .map(|i| {
            pods.adapt(i);
            pods.start(i)
        })
        .collect();
    for node in &mut nodes {
        node.stdout.until("is ready");
    }
    for i in 0..nodes.len() {
        for (probe, status) in [
            ("startupProbe", 200),
            ("livenessProbe", 200),
            ("readinessProbe", 503),
        ] {
            let probe = &pods.container()[probe]["httpGet"];
            assert_eq!(probe["port"], "admin");
            let reply = pods.get(i, text(&probe["path"]), &[]);
            assert_eq!(reply.status, status, "{probe}: {reply:?}");
            // Callers would be refused: there is no function here. Nothing else is missing.
            assert_eq!(
                status == 503,
                reply.body.contains("no function was discovered yet"),
                "{reply:?}"
            );
        }
        assert_eq!(pods.get(i, "/readyz/writes", &[]).status, 200);
        assert_eq!(pods.get(i, "/metrics", &[]).status, 401);
        assert_eq!(pods.get(i, "/metrics", &shown).status, 200);
        let host = format!("{}.anabranch:7412", pods.names[i]);
        let named = [("Host", host.as_str()), shown[0]];
        assert_eq!(pods.get(i, "/v1/status", &named).status, 200);
    }
    let status =
        |i: usize| -> Value { serde_json::from_str(&pods.get(i, "/v1/status", &shown).body).unwrap() };
    for i in 0..nodes.len() {
        assert_eq!(status(i)["node"], pods.names[i].as_str());
        wait_for("the pods find each other by their seeds", || {
            let members = status(i)["members"].as_array().unwrap().clone();
            let connected = members.iter().filter(|member| member["connected"] == true);
            (connected.count() == nodes.len() - 1).then_some(())
        });
    }
    for node in &mut nodes {
        node.terminate();
        node.wait().done();
    }
}
