//! config/Dockerfile.

use std::path::Path;
use std::process::Command;

use super::super::support::ANABRANCH;
use super::super::support::namespace::{Place, enter};
use super::super::support::process::Process;
use super::super::support::temp::TempDir;
use super::{file, is_typed_rightly, list, manifest, object, root, text};

/// Instructions with their arguments; a line that goes on is one.
fn instructions() -> Vec<(String, String)> {
    let text = file("config/Dockerfile");
    let code: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let joined = code.join("\n").replace("\\\n", "");
    let lines = joined.lines().filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, rest) = line.split_once(' ').unwrap();
            (name.to_string(), rest.trim().to_string())
        })
        .collect()
}

fn all<'a>(instructions: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let of_name = instructions.iter().filter(|(found, _)| found == name);
    of_name.map(|(_, rest)| rest.as_str()).collect()
}

/// Where the first stage has copied what from: from the sources' paths to the image's.
fn copied(instructions: &[(String, String)]) -> Vec<(String, String)> {
    let mut copied = Vec::new();
    for line in all(instructions, "COPY") {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        if words[0].starts_with("--from=") {
            continue;
        }
        let to = words.pop().unwrap();
        for from in words {
            let name = Path::new(from).file_name().unwrap().to_str().unwrap();
            let to = match to.strip_suffix('/') {
                Some(directory) => format!("{directory}/{name}"),
                None => to.to_string(),
            };
            copied.push((from.to_string(), to.trim_start_matches("./").to_string()));
        }
    }
    copied
}

#[test]
fn the_image_is_built_of_the_whole_workspace() {
    let instructions = instructions();
    let copied = copied(&instructions);
    let dir = TempDir::new("image-sources");
    for (from, to) in &copied {
        assert_eq!(from, to, "a path that is another one in the image");
        let to = dir.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(root().join(from).canonicalize().unwrap(), to).unwrap();
    }
    for name in ["Cargo.toml", "Cargo.lock"] {
        assert!(dir.join(name).is_file(), "{name} is not copied");
    }
    // Cargo reads the manifests of all members, and fails where one of them is missing.
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let mut metadata = Command::new(cargo);
    metadata
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(dir.path());
    let metadata = Process::start("cargo metadata", &mut metadata).wait().done();
    for member in ["crdt-core", "laws", "node", "derive", "sim"] {
        assert!(metadata.contains(&format!("{member}/Cargo.toml\"")), "{member}");
    }
    // And the sources name files of others.
    let included = included();
    assert!(included.contains(&"config/node.toml".to_string()), "{included:?}");
    for path in included {
        assert!(dir.join(&path).is_file(), "{path} is not copied");
    }
}

/// What the sources of the program's packages include from elsewhere, by its path in the repository.
fn included() -> Vec<String> {
    let mut directories = ["crdt-core/src", "node/src", "node/derive/src"]
        .map(|path| root().join(path))
        .to_vec();
    let mut included = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                for part in source.split("include_str!(\"").skip(1) {
                    let (target, _) = part.split_once('"').unwrap();
                    let target = directory.join(target).canonicalize().unwrap();
                    let target = target.strip_prefix(root().canonicalize().unwrap()).unwrap();
                    included.push(target.to_str().unwrap().to_string());
                }
            }
        }
    }
    included
}

#[test]
fn the_image_runs_the_program_that_was_built_as_nobody() {
    let instructions = instructions();
    let build = all(&instructions, "RUN")[0];
    for part in [
        "--locked",
        "--profile dist",
        "--package anabranch",
        "--bin anabranch",
    ] {
        assert!(build.contains(part), "{part} is not in {build}");
    }
    let manifest = file("Cargo.toml");
    assert!(manifest.contains("[profile.dist]"));
    let rust = format!("rust:{}-", env!("CARGO_PKG_RUST_VERSION"));
    let from = all(&instructions, "FROM");
    assert!(
        from[0].starts_with(&rust),
        "{from:?} is not the workspace's {rust}"
    );
    assert_eq!(from[1], "scratch");
    let user = all(&instructions, "USER");
    let (user, group) = user[0].split_once(':').unwrap();
    assert!(user.parse::<u32>().unwrap() > 0 && group.parse::<u32>().unwrap() > 0);

    let words = |name: &str| -> Vec<String> { serde_json::from_str(all(&instructions, name)[0]).unwrap() };
    assert_eq!(words("ENTRYPOINT"), ["/usr/local/bin/anabranch"]);
    let command = words("CMD");
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    assert_eq!(command[0], "node");
    is_typed_rightly(&command);
}

#[test]
fn the_image_holds_all_that_the_program_needs() {
    if let Place::Over = enter("ops::image::the_image_holds_all_that_the_program_needs") {
        return;
    }
    let instructions = instructions();
    let dir = TempDir::new("image");
    let (image, empty) = (dir.join("image"), dir.join("empty"));
    let script = all(&instructions, "RUN")[1]
        .replace("target/dist/anabranch", ANABRANCH)
        .replace(" /empty", &format!(" {}", empty.display()))
        .replace("\"/image", &format!("\"{}", image.display()))
        .replace(" /image", &format!(" {}", image.display()));
    let shell: Vec<String> = serde_json::from_str(all(&instructions, "SHELL")[0]).unwrap();
    let mut command = Command::new(&shell[0]);
    Process::start("RUN", command.args(&shell[1..]).arg(script))
        .wait()
        .done();
    let last = all(&instructions, "COPY").split_off(all(&instructions, "COPY").len() - 2);
    assert_eq!(last[0], "--from=build /image /");
    assert!(last[1].ends_with(" /empty /var/lib/anabranch"), "{last:?}");

    let mut command = Command::new("chroot");
    command.arg(&image).args([
        "/usr/local/bin/anabranch",
        "node",
        "--config",
        "/etc/anabranch/node.toml",
    ]);
    let ended = Process::start("chroot", &mut command).wait();
    // It starts, and finds no configuration in a directory that has only itself.
    ended.failed(
        super::super::support::exit::CONFIG,
        &["cannot read /etc/anabranch/node.toml"],
    );
}

#[test]
fn images_are_named_without_a_registry() {
    let instructions = instructions();
    let mut images: Vec<String> = all(&instructions, "FROM")
        .iter()
        .map(|from| from.split(' ').next().unwrap().to_string())
        .collect();
    let set = object(&manifest(), "StatefulSet", "anabranch");
    let pod = &set["spec"]["template"]["spec"];
    for containers in ["initContainers", "containers"] {
        images.extend(
            list(&pod[containers])
                .iter()
                .map(|c| text(&c["image"]).to_string()),
        );
    }
    assert_eq!(images.len(), 5, "{images:?}");
    for image in &images {
        // A first part with a dot or a port in it would be a host.
        let (first, rest) = image.split_once('/').unwrap_or(("", image));
        assert!(!first.contains(['.', ':']) && first != "localhost", "{image}");
        assert!(rest.contains(':') || image == "scratch", "{image} has no version");
    }
    let own = format!("anabranch:{}", env!("CARGO_PKG_VERSION"));
    assert!(images.contains(&own), "no {own} in {images:?}");
    assert!(file("config/Dockerfile").contains(&format!("--tag {own} ")));
}
