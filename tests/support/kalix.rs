//! The tests' functions on the SDKs of Kalix and of Cloudstate: installed once, started by whoever tests them.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use prost::Message;
use prost_reflect::DescriptorPool;
use serde_json::Value;

use super::ANABRANCH;
use super::grpc::Grpc;
use super::process::Process;
use super::temp::TempDir;

/// One of them, ready to be started with `npm start`.
pub struct Installed {
    pub dir: PathBuf,
    pub pool: DescriptorPool,
}

/// Set where nothing may be missing.
const NOTHING_MISSING: &str = "ANABRANCH_NOTHING_MISSING";

/// The one on Kalix's SDK.
pub fn shop() -> Option<&'static Installed> {
    static SHOP: OnceLock<Option<Installed>> = OnceLock::new();
    installed(&SHOP, "kalix", "shop.proto", "@kalix-io/kalix-javascript-sdk")
}

/// The one on Cloudstate's.
pub fn meeting() -> Option<&'static Installed> {
    static MEETING: OnceLock<Option<Installed>> = OnceLock::new();
    installed(&MEETING, "cloudstate", "meeting.proto", "cloudstate")
}

/// Installs a function, if that can be done here. Where it cannot, and may, whoever asks skips, and says so.
fn installed(
    once: &'static OnceLock<Option<Installed>>,
    name: &str,
    proto: &str,
    sdk: &str,
) -> Option<&'static Installed> {
    let installed = once.get_or_init(|| match install(name, proto, sdk) {
        Ok(installed) => Some(installed),
        Err(why) => {
            assert!(std::env::var_os(NOTHING_MISSING).is_none(), "{why}");
            None
        }
    });
    if installed.is_none() {
        // Past the test harness, which keeps what a test that passes has printed to itself.
        let mut loud = std::io::stderr();
        let why = "Node.js or npm's registry is missing";
        writeln!(
            loud,
            "SKIPPED: no function on the SDK {sdk} can be run here: {why}"
        )
        .unwrap();
    }
    installed.as_ref()
}

/// `dev` with this function beside each node.
pub struct Dev {
    pub process: Process,
    pub nodes: Vec<Value>,
    function: &'static Installed,
    _dir: TempDir,
}

impl Dev {
    pub fn start(name: &str, function: &'static Installed, nodes: usize) -> Dev {
        Dev::start_with(name, function, nodes, &[])
    }

    /// The same with these options.
    pub fn start_with(name: &str, function: &'static Installed, nodes: usize, options: &[&str]) -> Dev {
        Dev::start_by(name, function, nodes, options, &["npm", "start", "--silent"])
    }

    /// The same with this command.
    pub fn start_by(
        name: &str,
        function: &'static Installed,
        nodes: usize,
        options: &[&str],
        by: &[&str],
    ) -> Dev {
        let dir = TempDir::new(name);
        let mut command = Command::new(ANABRANCH);
        command
            .args(["dev", "--json", "--nodes", &nodes.to_string(), "--dir"])
            .arg(dir.join("cluster"))
            .args(options)
            .arg("--")
            .args(by)
            .current_dir(&function.dir);
        let mut process = Process::start("dev", &mut command);
        let mut nodes: Vec<Value> = (0..nodes)
            .map(|_| serde_json::from_str(&process.stdout.next().unwrap()).unwrap())
            .collect();
        nodes.sort_by_key(|node| node["node"].as_str().unwrap().to_owned());
        Dev {
            process,
            nodes,
            function,
            _dir: dir,
        }
    }

    pub fn ingress(&self, node: usize) -> SocketAddr {
        self.nodes[node]["ingress"].as_str().unwrap().parse().unwrap()
    }

    pub fn clients(&self) -> Vec<Grpc> {
        let client = |node| Grpc::connect(self.ingress(node), &self.function.pool);
        (0..self.nodes.len()).map(client).collect()
    }
}

/// One at a time: tests of one run may be in several processes' directories, this is one directory.
static INSTALLING: Mutex<()> = Mutex::new(());

fn install(name: &str, proto: &str, sdk: &str) -> Result<Installed, String> {
    let _one = INSTALLING.lock().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/data")
        .join(name);
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("function-{name}"));
    copy(&from, &dir).map_err(|e| e.to_string())?;
    let installed = Command::new("npm")
        .args([
            "install",
            "--ignore-scripts",
            "--no-package-lock",
            "--no-audit",
            "--no-fund",
            "--prefer-offline",
        ])
        .current_dir(&dir)
        .output()
        .map_err(|e| format!("npm: {e}"))?;
    if !installed.status.success() {
        return Err(format!(
            "npm install: {}",
            String::from_utf8_lossy(&installed.stderr)
        ));
    }
    let sdk = dir.join("node_modules").join(sdk).join("proto");
    // As `protoc --include_imports --include_source_info --descriptor_set_out=user-function.desc` would.
    let mut compiler = protox::Compiler::new([&dir, &sdk]).map_err(|e| e.to_string())?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file(proto).map_err(|e| format!("{e:?}"))?;
    let set = compiler.encode_file_descriptor_set();
    fs::write(dir.join("user-function.desc"), &set).map_err(|e| e.to_string())?;
    let pool = DescriptorPool::decode(set.as_slice()).map_err(|e| e.to_string())?;
    assert!(prost_types::FileDescriptorSet::decode(set.as_slice()).is_ok());
    Ok(Installed { dir, pool })
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => fs::copy(entry.path(), to).map(|_| ())?,
        }
    }
    Ok(())
}
