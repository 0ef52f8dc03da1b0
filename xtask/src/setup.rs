//! Installs what a fresh machine lacks: the wasm target, npm packages, Chromium.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use xshell::{Shell, cmd};

/// The target of the browser's half.
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// The oldest Node.js that the page's tools run on, major and minor: as `engines` of the `package.json` files says.
const NODE: [u32; 2] = [20, 19];

/// Adds the wasm target to the toolchain in use, unless it is there.
pub fn wasm_target(sh: &Shell) -> Result<()> {
    let sysroot = cmd!(sh, "rustc --print sysroot").quiet().read()?;
    if Path::new(&sysroot).join("lib/rustlib").join(WASM_TARGET).exists() {
        return Ok(());
    }
    cmd!(sh, "rustup target add {WASM_TARGET}").run().context(
        "the toolchain has no wasm target and rustup could not add it: install Rust through https://rustup.rs, or the target by hand",
    )
}

/// Installs the npm packages of `folder` as its lock file says, unless that was done since the lock file changed.
pub fn npm_packages(sh: &Shell, folder: &str) -> Result<()> {
    check_node(sh)?;
    let _inside = sh.push_dir(folder);
    let lock = sh.current_dir().join("package-lock.json");
    let installed = sh.current_dir().join("node_modules/.package-lock.json");
    if is_newer(&installed, &lock) {
        return Ok(());
    }
    cmd!(sh, "npm ci --no-audit --no-fund")
        .run()
        .with_context(|| format!("npm could not install the packages of {folder}"))
}

/// A virtual environment in `folder` with these packages. Returns its Python.
pub fn python_packages(sh: &Shell, folder: &Path, packages: &[&str]) -> Result<PathBuf> {
    let python = folder.join("bin/python");
    if !python.exists() {
        cmd!(sh, "python3 -m venv {folder}")
            .run()
            .context("Python 3 with its venv module is needed (Debian: apt-get install python3-venv)")?;
    }
    cmd!(sh, "{python} -m pip install --quiet {packages...}").run()?;
    Ok(python)
}

/// nginx and Caddy, from the system's packages unless they are there.
pub fn proxies(sh: &Shell) -> Result<()> {
    for (program, package) in [("nginx", "nginx-light"), ("caddy", "caddy")] {
        if find(sh, program).is_some() {
            continue;
        }
        if !is_root() || find(sh, "apt-get").is_none() {
            bail!("{program} is needed to test what deploy/ holds: install it from the system's packages");
        }
        apt_install(sh, &[package])?;
    }
    Ok(())
}

fn apt_install(sh: &Shell, packages: &[&str]) -> Result<()> {
    let _noninteractive = sh.push_env("DEBIAN_FRONTEND", "noninteractive");
    cmd!(sh, "apt-get update --quiet").run()?;
    Ok(cmd!(
        sh,
        "apt-get install --quiet --yes --no-install-recommends {packages...}"
    )
    .run()?)
}

/// A Chromium for the browser tests. None if it is the one that Playwright installed and finds by itself.
pub fn chromium(sh: &Shell, playwright_folder: &str) -> Result<Option<PathBuf>> {
    if let Some(found) = find_chromium(sh) {
        return Ok(Some(found));
    }
    if is_root() && find(sh, "apt-get").is_some() {
        // The fonts too: without any, a page has no text to show.
        apt_install(sh, &["chromium", "fonts-dejavu-core"])?;
        return match find_chromium(sh) {
            Some(found) => Ok(Some(found)),
            None => bail!("Chromium was installed but is not on the PATH; name it in CHROMIUM"),
        };
    }
    let _inside = sh.push_dir(playwright_folder);
    cmd!(sh, "npx playwright install chromium")
        .run()
        .context("no Chromium was found and Playwright could not install one: install it and name it in CHROMIUM")?;
    Ok(None)
}

fn find_chromium(sh: &Shell) -> Option<PathBuf> {
    let named = sh.var_os("CHROMIUM").map(PathBuf::from);
    named.or_else(|| {
        ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"]
            .iter()
            .find_map(|it| find(sh, it))
    })
}

/// A Firefox for its smoke test, if this machine has one; it is not installed for that.
pub fn firefox(sh: &Shell) -> Option<PathBuf> {
    let named = sh.var_os("FIREFOX").map(PathBuf::from);
    named.or_else(|| ["firefox", "firefox-esr"].iter().find_map(|it| find(sh, it)))
}

/// Looks a program up on the PATH.
fn find(sh: &Shell, program: &str) -> Option<PathBuf> {
    let path = sh.var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|it| it.join(program))
        .find(|it| it.is_file())
}

/// Whether this program runs as root.
pub fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|it| it.stdout.trim_ascii() == b"0")
}

fn check_node(sh: &Shell) -> Result<()> {
    let version = cmd!(sh, "node --version")
        .quiet()
        .ignore_stderr()
        .read()
        .unwrap_or_default();
    let found = match node_version(&version) {
        Some(found) if found >= NODE => return Ok(()),
        Some(_) => &version,
        None => "none",
    };
    let [major, minor] = NODE;
    bail!("Node.js {major}.{minor} or newer is needed, found {found}: see https://nodejs.org")
}

/// Major and minor number of what `node --version` prints.
fn node_version(text: &str) -> Option<[u32; 2]> {
    let mut numbers = text.strip_prefix('v')?.split('.').map(|it| it.parse().ok());
    Some([numbers.next()??, numbers.next()??])
}

fn is_newer(file: &Path, than: &Path) -> bool {
    let modified = |it: &Path| fs::metadata(it).and_then(|it| it.modified()).ok();
    matches!((modified(file), modified(than)), (Some(file), Some(than)) if file >= than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version_of_node() {
        assert_eq!(node_version("v20.20.2"), Some([20, 20]));
        for none in ["", "20", "20.19.0", "v20", "v20.x"] {
            assert_eq!(node_version(none), None, "{none}");
        }
    }

    #[test]
    fn the_oldest_node_is_that_of_every_package() {
        let [major, minor] = NODE;
        let engines = format!(r#""node": ">={major}.{minor}""#);
        for folder in ["web", "tests/browser", "tests/bench"] {
            let package = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("..")
                .join(folder)
                .join("package.json");
            assert!(fs::read_to_string(package).unwrap().contains(&engines), "{folder}");
        }
        let is_enough = |version| node_version(version).is_some_and(|it| it >= NODE);
        assert!(
            ["v20.19.0", "v20.20.1", "v22.0.0", "v100.1.0"]
                .into_iter()
                .all(is_enough)
        );
        assert!(!["v20.18.3", "v18.20.0", "v9.30.0"].into_iter().any(is_enough));
    }

    #[test]
    fn a_missing_file_is_never_newer() {
        let here = Path::new(file!());
        assert!(!is_newer(Path::new("no such file"), here));
    }
}
