//! The file of a sweep: its commands, and which of them need which.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{bail, ensure};

use crate::run::FINAL;

/// Flags that name what a command starts from.
const INPUTS: [&str; 8] = [
    "--parent",
    "--teacher",
    "--from",
    "--checkpoint",
    "--unpruned",
    "--data",
    "--classes-file",
    "--series",
];

/// All commands, in order.
#[derive(Debug)]
pub struct Sweep {
    /// At least one.
    pub jobs: Vec<Job>,
}

/// One command.
#[derive(Debug)]
pub struct Job {
    /// Its line in the file, from 1.
    pub line: usize,
    /// The trainer's arguments, with those that `defaults` lines add.
    pub words: Vec<String>,
}

/// Flags for commands that begin with some words.
struct Defaults {
    begin: Vec<String>,
    flags: Vec<Vec<String>>,
}

impl Sweep {
    /// Reads a file's text; `check` says what is wrong with a command. The error lists everything that is wrong, by line.
    pub fn parse(text: &str, check: impl Fn(&[String]) -> Result<(), String>) -> anyhow::Result<Self> {
        let (mut jobs, mut defaults, mut wrong): (Vec<Job>, Vec<Defaults>, _) = (Vec::new(), Vec::new(), String::new());
        for (line, text) in commands(text) {
            let words = shlex::split(&text).ok_or_else(|| "a quotation mark is not closed".to_owned());
            let job = words.and_then(|words| match words.split_first() {
                None => Ok(None),
                Some((first, rest)) if first == "defaults" => {
                    let (begin, flags) = parts(rest);
                    defaults.push(Defaults { begin, flags });
                    Ok(None)
                }
                Some((first, _)) if first == "sweep" => Err("a sweep cannot be part of another".to_owned()),
                Some(_) => {
                    let words = with_defaults(words, &defaults);
                    check(&words)?;
                    Ok(Some(Job { line, words }))
                }
            });
            match job {
                Ok(job) => jobs.extend(job),
                Err(reason) => {
                    // Text takes everything.
                    writeln!(wrong, "line {line}: {reason}").unwrap_or_default();
                }
            }
        }
        ensure!(wrong.is_empty(), "{}", wrong.trim_end());
        ensure!(!jobs.is_empty(), "there is no command in it");
        for (at, job) in jobs.iter().enumerate() {
            let twin = |other: &&Job| !job.changes_a_series() && job.makes().is_some() && other.makes() == job.makes();
            if let Some(earlier) = jobs[..at].iter().find(twin) {
                bail!("lines {} and {} both make {}", earlier.line, job.line, job.name());
            }
        }
        Ok(Self { jobs })
    }

    /// Refuses a sweep with a command that starts from what is not there and no earlier command makes: that would only show in the night.
    pub fn check_inputs(&self) -> anyhow::Result<()> {
        for (at, job) in self.jobs.iter().enumerate() {
            let is_made = |path: &Path| self.jobs[..at].iter().any(|it| it.makes_part_of(path));
            for flag in INPUTS.iter().filter(|it| **it != "--series" || !job.changes_a_series()) {
                if let Some(path) = job.values(flag).map(Path::new).find(|it| !it.exists() && !is_made(it)) {
                    bail!(
                        "line {}: {flag} {} is not there, and no line before makes it",
                        job.line,
                        path.display()
                    );
                }
            }
        }
        Ok(())
    }

    /// The commands that make what a later one names.
    pub fn needs(&self, at: usize) -> impl Iterator<Item = usize> {
        (0..at).filter(move |earlier| self.jobs[at].names(&self.jobs[*earlier]))
    }
}

impl Job {
    /// The command as it could be typed.
    pub fn command(&self) -> String {
        let words = self.words.iter().map(String::as_str);
        // Only a zero byte cannot be quoted, and no argument can have one.
        shlex::try_join(words).unwrap_or_default()
    }

    /// What the table calls it: what it makes, with the command where that alone does not say what is done.
    pub fn name(&self) -> String {
        let command = self.words.first().map_or("", String::as_str);
        match (self.makes(), command) {
            (Some(path), "train" | "prune") => path.display().to_string(),
            (Some(path), _) => format!("{command} {}", path.display()),
            (None, _) => self.command(),
        }
    }

    /// The folder of the run, if it is one.
    pub fn run(&self) -> Option<&Path> {
        let is_run = matches!(self.words.first()?.as_str(), "train" | "prune");
        self.values("--run").next().filter(|_| is_run).map(Path::new)
    }

    /// A file that is there once the command has succeeded.
    pub fn result(&self) -> Option<PathBuf> {
        match self.run() {
            Some(run) => Some(run.join(FINAL)),
            None if self.changes_a_series() => Some(self.makes()?.join("manifest.json")),
            None => self.makes().map(Path::to_owned),
        }
    }

    fn makes(&self) -> Option<&Path> {
        let flag = match self.words.first()?.as_str() {
            "train" | "prune" => "--run",
            "import" | "average" | "to-onnx" | "report" => "--to",
            "export" | "calibrate" | "time" | "quick" => "--series",
            _ => return None,
        };
        self.values(flag).next().map(Path::new)
    }

    /// Whether it makes a series or adds to one, which several commands may.
    fn changes_a_series(&self) -> bool {
        matches!(
            self.words.first().map(String::as_str),
            Some("export" | "calibrate" | "time" | "quick")
        )
    }

    fn makes_part_of(&self, path: &Path) -> bool {
        self.makes().is_some_and(|it| plain(path).starts_with(plain(it)))
    }

    /// Whether it names what another one makes.
    fn names(&self, other: &Self) -> bool {
        let values = self
            .words
            .iter()
            .map(|it| it.split_once('=').map_or(it.as_str(), |it| it.1));
        values.map(Path::new).any(|it| other.makes_part_of(it))
    }

    /// What is given for a flag, `--flag value` or `--flag=value`.
    fn values<'a>(&'a self, flag: &'a str) -> impl Iterator<Item = &'a str> {
        let behind = self.words.iter().skip(1).map(String::as_str).chain([""]);
        self.words
            .iter()
            .zip(behind)
            .filter_map(move |(word, next)| match word.strip_prefix(flag)? {
                "" => Some(next),
                rest => rest.strip_prefix('='),
            })
    }
}

/// Every command with the number of the line that it begins in: a backslash at the end of a line joins the next one to it.
fn commands(text: &str) -> Vec<(usize, String)> {
    let mut commands: Vec<(usize, String)> = Vec::new();
    let mut goes_on = false;
    for (number, line) in (1..).zip(text.lines()) {
        let joined = line.strip_suffix('\\').filter(|it| !it.trim_start().starts_with('#'));
        let part = joined.unwrap_or(line);
        match commands.last_mut().filter(|_| goes_on) {
            Some((_, command)) => command.push_str(part),
            None => commands.push((number, part.to_owned())),
        }
        goes_on = joined.is_some();
    }
    commands
}

/// A path without what does not change where it leads, such as `./`.
fn plain(path: &Path) -> PathBuf {
    std::path::absolute(path).map_or_else(|_| path.to_owned(), |it| it.components().collect())
}

/// A command's first words, and its flags with their values.
fn parts(words: &[String]) -> (Vec<String>, Vec<Vec<String>>) {
    let first = words.iter().position(|it| it.starts_with("--")).unwrap_or(words.len());
    let flags = words[first..].chunk_by(|_, next| !next.starts_with("--"));
    (words[..first].to_vec(), flags.map(<[String]>::to_vec).collect())
}

fn flag(words: &[String]) -> &str {
    let word = words.first().map_or("", String::as_str);
    word.split_once('=').map_or(word, |it| it.0)
}

/// A command with the flags of the last `defaults` line that has them for it, where it does not give them itself.
fn with_defaults(words: Vec<String>, defaults: &[Defaults]) -> Vec<String> {
    let (begin, mut flags) = parts(&words);
    for it in defaults.iter().rev().filter(|it| begin.starts_with(&it.begin)) {
        let given: Vec<String> = flags.iter().map(|it| flag(it).to_owned()).collect();
        let missing = it
            .flags
            .iter()
            .filter(|it| !given.iter().any(|given| given == flag(it)));
        flags.extend(missing.cloned().collect::<Vec<_>>());
    }
    begin.into_iter().chain(flags.into_iter().flatten()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> anyhow::Result<Sweep> {
        Sweep::parse(text, |words| match words.iter().find(|it| it.contains("wrong")) {
            Some(word) => Err(format!("{word} is wrong")),
            None => Ok(()),
        })
    }

    #[test]
    fn words_are_those_of_a_shell() {
        let sweep = parse("# a comment \\\n\ntrain --data 'my pictures' \\\n  --run a\\ b # another\n").unwrap();
        assert_eq!(sweep.jobs.len(), 1);
        let job = &sweep.jobs[0];
        assert_eq!((job.line, job.words.len()), (3, 5));
        assert_eq!(job.words[2..], ["my pictures", "--run", "a b"]);
        assert_eq!(job.command(), "train --data 'my pictures' --run 'a b'");
        assert_eq!(job.name(), "a b");
    }

    #[test]
    fn defaults_hold_for_the_lines_that_begin_like_them_and_give_way() {
        let sweep = parse(
            "train --run a\n\
             defaults prune step2 --bits 3 --size 1 2 --no-flip\n\
             defaults prune --epochs 4 --bits 8\n\
             prune step2 --run b --size 3 4\n\
             prune step1 --run c --epochs=9",
        )
        .unwrap();
        let commands: Vec<String> = sweep.jobs.iter().map(Job::command).collect();
        assert_eq!(
            commands,
            [
                "train --run a",
                "prune step2 --run b --size 3 4 --epochs 4 --bits 8 --no-flip",
                "prune step1 --run c '--epochs=9' --bits 8",
            ]
        );
    }

    #[test]
    fn everything_that_is_wrong_is_listed_by_its_line() {
        let check = |text: &str, words: &[&str]| {
            let message = parse(text).unwrap_err().to_string();
            assert!(words.iter().all(|it| message.contains(it)), "{message}");
        };
        check("\n# nothing\n", &["no command"]);
        check(
            "train --run 'a\nsweep x\n\ntrain --wrong",
            &["line 1: a quotation", "line 2: a sweep", "line 4: --wrong is wrong"],
        );
        check("train --run a\n\nprune step1 --run a", &["lines 1 and 3", "a"]);
    }

    #[test]
    fn a_command_needs_those_before_it_whose_results_it_names() {
        let sweep = parse(
            "import --from x --to a.safetensors\n\
             train --parent ./a.safetensors --run runs/b\n\
             train --run runs/bb\n\
             export --checkpoint=runs/b/final.safetensors --series s\n\
             calibrate --series s\n\
             evaluate --series s",
        )
        .unwrap();
        let needs: Vec<Vec<usize>> = (0..6).map(|it| sweep.needs(it).collect()).collect();
        assert_eq!(needs, [vec![], vec![0], vec![], vec![1], vec![3], vec![3, 4]]);
        let message = sweep.check_inputs().unwrap_err().to_string();
        assert!(message.contains("line 1: --from x is not there"), "{message}");
    }
}
