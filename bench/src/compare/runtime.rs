//! OCI runtimes: create, start, the end of a program that does nothing, delete.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags};
use serde_json::{Value, json};

/// What comes with Debian's container tools: the default profile of the engines.
const PROFILE: &str = "/usr/share/containers/seccomp.json";

/// What one contender took in one round.
struct Round {
    wall: u64,
    cpu: u64,
    rss: u64,
}

/// Prints both tables. The contenders take turns, in a mount namespace in which no cgroup2 is
/// mounted beside the hierarchies of version 1, because crun refuses such a machine.
pub fn compare(rounds: usize, directory: &Path) -> Result<()> {
    hide_cgroup2()?;
    let here = std::env::current_exe()?;
    let beside = |name: &str| here.with_file_name(name);
    let contenders = [
        ("brisk-runtime", beside("brisk-runtime")),
        ("crun", PathBuf::from("crun")),
        ("runc", PathBuf::from("runc")),
    ];
    for (title, profile) in [
        ("without seccomp", None),
        ("with the default seccomp profile", Some(Path::new(PROFILE))),
    ] {
        let bundle = directory.join(title.replace(' ', "-"));
        make_bundle(&bundle, profile)?;
        let mut taken: Vec<Vec<Round>> = contenders.iter().map(|_| Vec::new()).collect();
        for number in 0..=rounds {
            for (index, (name, runtime)) in contenders.iter().enumerate() {
                let state = directory.join(format!("state-{name}"));
                std::fs::create_dir_all(&state)?;
                let round = one(&beside("brisk-round"), runtime, &state, &bundle)?;
                // The first warms the caches.
                if number > 0 {
                    taken[index].push(round);
                }
            }
        }
        let names: Vec<&str> = contenders.iter().map(|(name, _)| *name).collect();
        print(title, &names, &taken);
    }
    Ok(())
}

fn one(program: &Path, runtime: &Path, state: &Path, bundle: &Path) -> Result<Round> {
    let output = Command::new(program)
        .args([runtime, state, bundle])
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<u64> = text.split_whitespace().flat_map(str::parse).collect();
    match numbers[..] {
        [wall, cpu, rss] if output.status.success() => Ok(Round { wall, cpu, rss }),
        _ => bail!("{}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}

fn hide_cgroup2() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).context("unshare needs root")?;
    let none: Option<&str> = None;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    for line in std::fs::read_to_string("/proc/self/mountinfo")?.lines() {
        let (mount, kind) = line.split_once(" - ").unwrap_or((line, ""));
        let beside = mount
            .split(' ')
            .nth(4)
            .filter(|path| path.len() > "/sys/fs/cgroup".len());
        if let (Some(path), true) = (beside, kind.starts_with("cgroup2 ")) {
            nix::mount::umount2(path, MntFlags::MNT_DETACH)?;
        }
    }
    Ok(())
}

/// The specification that runc itself writes, around a static `true`.
fn make_bundle(bundle: &Path, profile: Option<&Path>) -> Result<()> {
    let bin = bundle.join("rootfs/bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy("/bin/busybox", bin.join("true")).context("busybox-static is needed")?;
    let made = Command::new("runc")
        .arg("spec")
        .arg("--bundle")
        .arg(bundle)
        .status()?;
    if !made.success() {
        bail!("runc spec: {made}");
    }
    let path = bundle.join("config.json");
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/bin/true"]);
    if let Some(profile) = profile {
        let text =
            std::fs::read(profile).with_context(|| format!("reading {}", profile.display()))?;
        spec["linux"]["seccomp"] = convert(&serde_json::from_slice(&text)?);
    }
    std::fs::write(path, serde_json::to_vec(&spec)?)?;
    Ok(())
}

/// The runtime specification's form of an engine's profile: the rules that hold for a container
/// without further capabilities on x86-64.
fn convert(profile: &Value) -> Value {
    let rules = profile["syscalls"].as_array().cloned().unwrap_or_default();
    let holds = |rule: &Value| {
        let includes = &rule["includes"];
        let excludes = &rule["excludes"];
        let lists = |list: &Value, word: &str| {
            let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
            list.iter().any(|entry| entry == word)
        };
        let arches = includes["arches"].as_array();
        includes["caps"].is_null()
            && arches.is_none_or(|_| lists(&includes["arches"], "amd64"))
            && !lists(&excludes["arches"], "amd64")
    };
    let rules: Vec<Value> = rules
        .into_iter()
        .filter(holds)
        .map(|rule| {
            let mut kept = json!({"names": rule["names"], "action": rule["action"]});
            for key in ["args", "errnoRet"] {
                if !rule[key].is_null() {
                    kept[key] = rule[key].clone();
                }
            }
            kept
        })
        .collect();
    json!({
        "defaultAction": profile["defaultAction"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": rules,
    })
}

fn print(title: &str, names: &[&str], taken: &[Vec<Round>]) {
    println!("\n{title}: median, minimum, 90th percentile in ms; ratio of brisk's median\n");
    println!("| | wall | min | p90 | brisk's | CPU | min | p90 | brisk's | peak RSS, MiB |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let sorted = |rounds: &[Round], of: fn(&Round) -> u64| {
        let mut values: Vec<u64> = rounds.iter().map(of).collect();
        values.sort_unstable();
        values
    };
    let ours = taken.first().map(Vec::as_slice).unwrap_or_default();
    for (name, rounds) in names.iter().zip(taken) {
        print!("| {name} ");
        for of in [(|round| round.wall) as fn(&Round) -> u64, |round| round.cpu] {
            let values = sorted(rounds, of);
            let own = sorted(ours, of);
            let middle = values[values.len() / 2];
            let ratio = own[own.len() / 2] as f64 / middle as f64;
            let ms = |value: u64| value as f64 / 1000.0;
            let p90 = values[values.len() * 9 / 10];
            print!(
                "| {:.2} | {:.2} | {:.2} | {ratio:.2} ",
                ms(middle),
                ms(values[0]),
                ms(p90)
            );
        }
        let peak = sorted(rounds, |round| round.rss)
            .last()
            .copied()
            .unwrap_or(0);
        println!("| {:.1} |", peak as f64 / 1024.0);
    }
}
