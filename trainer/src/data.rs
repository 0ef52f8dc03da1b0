//! Labelled pictures: an image folder, or CIFAR's own binary files, prepared as the network takes them.
//!
//! An image folder is `train/<class>/*`, `test/<class>/*` and, if there is one, `val/<class>/*`: JPEG, PNG, WebP, GIF, BMP or TIFF of any size.
//! Classes are numbered in the alphabetical order of their folders. Binary files are those of
//! <https://www.cs.toronto.edu/~kriz/cifar.html>, told apart by their names.
//!
//! Pictures are decoded once, by all threads. They stay in memory up to a bound; the rest goes to a temporary file, which is gone when the
//! program ends.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use split_core::{Digest, Preparation};
use unicode_normalization::UnicodeNormalization;

use crate::augment;
use crate::decode::{self, Decoded};
use crate::progress;

/// Where pictures are, and how they are read.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DataSource {
    /// Image folder (train/CLASS/*, test/CLASS/* and, for choices, val/CLASS/*) or CIFAR's binary files.
    #[arg(long)]
    pub data: PathBuf,
    /// Leave out pictures that cannot be read, and list them, instead of stopping.
    #[arg(long)]
    #[serde(default)]
    pub skip_bad: bool,
    /// Megabytes of memory for decoded pictures, a quarter of what is free if not given; the rest goes to a temporary file.
    #[arg(long, value_name = "MB")]
    #[serde(default)]
    pub picture_memory: Option<u64>,
}

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subset {
    /// Pictures to learn from.
    Train,
    /// Pictures to choose settings with, never learned from.
    Validation,
    /// Pictures to measure on, never learned from nor chosen with.
    Test,
}

impl Subset {
    /// Names that its folder may have.
    fn folders(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train"],
            Self::Validation => &["val", "valid", "validation"],
            Self::Test => &["test"],
        }
    }

    fn folder(self, data: &Path) -> Option<PathBuf> {
        let mut folders = self.folders().iter().map(|it| data.join(it));
        folders.find(|it| it.is_dir())
    }
}

/// Of the training pictures, one in so many is held back where there is no `val` folder.
const HELD_BACK: usize = 10;
/// Pictures held back at most.
const MOST_HELD_BACK: usize = 2000;
/// Memory for pictures where the system does not say what is free.
const USUAL_MEMORY: u64 = 1 << 30;
/// Files that an error lists.
const LISTED: usize = 50;
/// Files whose size is looked at for an overview.
const GLANCES: usize = 40;
/// Class names that an error lists.
const NAMED: usize = 10;

/// Data that cannot be used as they are.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Pictures that are damaged or none.
    #[error("{}repair or remove them, or leave them out with --skip-bad", list_bad(folder, bad, *total))]
    Bad {
        /// Where they are.
        folder: PathBuf,
        /// The files, and what is wrong with them.
        bad: Vec<(PathBuf, String)>,
        /// Pictures in all.
        total: usize,
    },
    /// A folder without pictures.
    #[error("{path} holds no pictures ({}){left_out}", decode::READ.join(", "))]
    Empty {
        /// The folder.
        path: PathBuf,
        /// What is there instead, or what is wrong with them.
        left_out: String,
    },
    /// Neither an image folder nor CIFAR's files.
    #[error("{path} holds neither `{subset}/<class>/*.jpg` nor CIFAR's binary files")]
    Layout {
        /// The folder given.
        path: PathBuf,
        /// `train` or `test`.
        subset: &'static str,
    },
    /// A folder whose name is no text.
    #[error("the folder {path:?} cannot be a class: its name is not UTF-8; rename it")]
    Name {
        /// The folder.
        path: PathBuf,
    },
    /// Two folders that are one class.
    #[error(
        "{folder} has two folders named `{class}`, spelled with different Unicode characters; put their pictures into one"
    )]
    Twice {
        /// Where they are.
        folder: PathBuf,
        /// The class.
        class: String,
    },
    /// A binary file that is not whole records.
    #[error("{path} holds {got} bytes, not a multiple of {record}")]
    Records {
        /// The file.
        path: PathBuf,
        /// Bytes of one record.
        record: usize,
        /// Bytes of the file.
        got: usize,
    },
    /// A label beyond the class names.
    #[error("{path} has a picture of class {label}, there are {classes}")]
    Label {
        /// The file.
        path: PathBuf,
        /// The label.
        label: usize,
        /// Number of classes.
        classes: usize,
    },
    /// Other classes than those of the training pictures or of the network.
    #[error("{}", compare(folder, than, lacks, has))]
    Classes {
        /// Where the pictures are.
        folder: PathBuf,
        /// What has the right classes.
        than: String,
        /// Classes without a folder.
        lacks: Vec<String>,
        /// Folders that are no class.
        has: Vec<String>,
    },
    /// The temporary file for pictures beyond the memory's bound.
    #[error("the temporary file for decoded pictures in {folder}: {source}; --picture-memory MB keeps more in memory")]
    Scratch {
        /// Its folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn list_bad(folder: &Path, bad: &[(PathBuf, String)], total: usize) -> String {
    let mut text = format!(
        "{} of {total} pictures in {} cannot be read:\n",
        bad.len(),
        folder.display()
    );
    for (path, why) in bad.iter().take(LISTED) {
        text += &format!("  {}: {why}\n", path.display());
    }
    if bad.len() > LISTED {
        text += &format!("  and {} more\n", bad.len() - LISTED);
    }
    text
}

fn compare(folder: &Path, than: &str, lacks: &[String], has: &[String]) -> String {
    let names = |names: &[String]| {
        let shown: Vec<String> = names.iter().take(NAMED).map(|it| format!("`{it}`")).collect();
        match names.len().saturating_sub(NAMED) {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    };
    let mut parts = Vec::new();
    if !lacks.is_empty() {
        parts.push(format!("lacks {}", names(lacks)));
    }
    if !has.is_empty() {
        parts.push(format!("has {}, which {than} does not", names(has)));
    }
    let is_same = |a: &String, b: &String| a.to_lowercase() == b.to_lowercase();
    let case = lacks.iter().any(|it| has.iter().any(|other| is_same(it, other)));
    let hint = if case {
        " (names that differ only in case are different classes)"
    } else {
        ""
    };
    format!(
        "{} {}{hint}: it needs a folder with pictures for every class of {than}",
        folder.display(),
        parts.join(", and ")
    )
}

/// Pictures that were read, for whoever needs them again while a command runs.
#[derive(Debug, Default)]
pub struct Library(RefCell<Vec<(Wanted, Dataset)>>);

/// What makes pictures those that were read before.
#[derive(Clone, Debug, PartialEq)]
struct Wanted {
    source: DataSource,
    subset: Subset,
    size: [usize; 2],
    preparation: Preparation,
    classes: Option<Vec<String>>,
}

impl Library {
    fn find(&self, wanted: &Wanted) -> Option<Dataset> {
        let known = self.0.borrow();
        known.iter().find(|it| it.0 == *wanted).map(|it| it.1.clone())
    }
}

/// Reads pictures for one network.
#[derive(Debug)]
pub struct Reader<'a> {
    library: &'a Library,
    source: &'a DataSource,
    size: [usize; 2],
    preparation: Preparation,
    /// Folder for the temporary file.
    scratch: &'a Path,
    /// Bytes of memory that may still be used for pictures.
    memory: u64,
    /// Names of the classes, and what has them; those of the training pictures if there are none yet.
    classes: Option<(Vec<String>, String)>,
}

impl<'a> Reader<'a> {
    /// Brings pictures to `size` = `[rows, columns]`, unless the library has them. What does not fit into memory goes to a temporary file in the
    /// folder `scratch`.
    pub fn new(
        library: &'a Library,
        source: &'a DataSource,
        size: [usize; 2],
        preparation: Preparation,
        scratch: &'a Path,
    ) -> Self {
        let memory = source.picture_memory.map_or_else(free_memory, |it| it << 20);
        Self {
            library,
            source,
            size,
            preparation,
            scratch,
            memory,
            classes: None,
        }
    }

    /// Only accepts pictures of these classes, which `owner` has; they are numbered in this order.
    pub fn expecting(mut self, classes: &[String], owner: &str) -> Self {
        self.classes = Some((classes.to_vec(), owner.to_owned()));
        self
    }

    /// The pictures to learn from, and those to choose settings with: `val`, or a tenth of the training pictures, held back. Learns from
    /// `count` at most, spread evenly.
    pub fn learning(&mut self, count: Option<usize>) -> Result<(Dataset, Dataset), DataError> {
        let is_known = self.library.find(&self.wanted(Subset::Train)).is_some();
        let train = self.load(Subset::Train)?;
        let train = count.map_or(train.clone(), |it| train.thinned(it));
        if Subset::Validation.folder(&self.source.data).is_some() {
            return Ok((train, self.load(Subset::Validation)?));
        }
        let (train, held_back) = train.hold_back();
        if held_back.is_empty() {
            eprintln!("  too few to hold any back: settings are chosen with the pictures that are learned from");
            return Ok((train.clone(), train));
        }
        if !is_known {
            eprintln!(
                "  {} of them are held back to choose settings with, as there is no val folder",
                held_back.len()
            );
        }
        Ok((train, held_back))
    }

    /// The pictures to choose settings with, see [`learning`](Self::learning). None to learn from are decoded where `val` has them.
    pub fn validation(&mut self) -> Result<Dataset, DataError> {
        match Subset::Validation.folder(&self.source.data) {
            Some(_) => self.load(Subset::Validation),
            None => Ok(self.learning(None)?.1),
        }
    }

    fn wanted(&self, subset: Subset) -> Wanted {
        Wanted {
            source: self.source.clone(),
            subset,
            size: self.size,
            preparation: self.preparation,
            classes: self.classes.as_ref().map(|it| it.0.clone()),
        }
    }

    /// Reads a part of the data, and says what was found. Training and test pictures must be of all classes, validation pictures of any.
    pub fn load(&mut self, subset: Subset) -> Result<Dataset, DataError> {
        let wanted = self.wanted(subset);
        if let Some(known) = self.library.find(&wanted) {
            let owner = || self.source.data.display().to_string();
            self.classes.get_or_insert_with(|| (known.classes().to_vec(), owner()));
            return Ok(known);
        }
        let found = Found::look(&self.source.data, subset)?;
        let labels = self.labels(&found, subset)?;
        let classes = self
            .classes
            .get_or_insert_with(|| (found.classes.clone(), found.folder.display().to_string()));
        let classes = classes.0.clone();
        let (left, read) = self.read(&found, subset)?;
        let counts = left.iter().fold(vec![0_usize; found.classes.len()], |mut counts, it| {
            counts[found.pictures[*it].0] += 1;
            counts
        });
        let all_are_bad = |class: usize| counts[class] == 0 && found.pictures.iter().any(|it| it.0 == class);
        if let Some(class) = (0..counts.len()).find(|it| all_are_bad(*it)) {
            return Err(DataError::Empty {
                path: found.folder.join(&found.classes[class]),
                left_out: " that can be read".to_owned(),
            });
        }
        eprintln!("{}", found.describe(subset, &counts, &read.sides));
        let dataset = Dataset {
            store: Arc::new(Store {
                classes,
                size: self.size,
                preparation: self.preparation,
                labels: left.iter().map(|it| labels[found.pictures[*it].0] as u16).collect(),
                digests: read.digests,
                pixels: read.pixels,
            }),
            kept: (0..left.len()).collect(),
        };
        self.library.0.borrow_mut().push((wanted, dataset.clone()));
        Ok(dataset)
    }

    /// The number of each class that was found.
    fn labels(&self, found: &Found, subset: Subset) -> Result<Vec<usize>, DataError> {
        let Some((classes, owner)) = &self.classes else {
            return Ok((0..found.classes.len()).collect());
        };
        let without = |of: &[String], other: &[String]| -> Vec<String> {
            of.iter().filter(|it| !other.contains(it)).cloned().collect()
        };
        let lacks = match subset {
            Subset::Validation => Vec::new(),
            _ => without(classes, &found.classes),
        };
        let has = without(&found.classes, classes);
        if !lacks.is_empty() || !has.is_empty() {
            let (folder, than) = (found.folder.clone(), owner.clone());
            return Err(DataError::Classes {
                folder,
                than,
                lacks,
                has,
            });
        }
        Ok(found
            .classes
            .iter()
            .filter_map(|it| classes.iter().position(|other| other == it))
            .collect())
    }

    /// Decodes all pictures; returns which of them could be, and what became of those.
    fn read(&mut self, found: &Found, subset: Subset) -> Result<(Vec<usize>, Decodings), DataError> {
        let bar = progress::bar(subset.folders()[0], found.pictures.len() as u64);
        bar.set_message("looking at the pictures");
        let mut all = Decodings::new(self.scratch, self.size[0] * self.size[1] * 3);
        let (mut left, mut bad) = (Vec::new(), Vec::new());
        // Threads decode ahead of the one that puts pictures away, by so many at most.
        let ahead = 4 * rayon::current_num_threads();
        for (start, pictures) in found
            .pictures
            .chunks(ahead)
            .enumerate()
            .map(|(at, it)| (at * ahead, it))
        {
            let decoded: Vec<_> = pictures
                .par_iter()
                .map(|(_, it)| it.decode(self.preparation, self.size))
                .collect();
            for (at, decoded) in (start..).zip(decoded) {
                bar.inc(1);
                match decoded {
                    Ok((digest, decoded)) => {
                        all.add(digest, decoded, &mut self.memory)?;
                        left.push(at);
                    }
                    Err(why) => bad.push((found.pictures[at].1.path().to_owned(), why)),
                }
            }
        }
        bar.finish_and_clear();
        if !bad.is_empty() {
            let (folder, total) = (found.folder.clone(), found.pictures.len());
            if !self.source.skip_bad {
                return Err(DataError::Bad { folder, bad, total });
            }
            eprint!("left out: {}", list_bad(&folder, &bad, total));
        }
        Ok((left, all))
    }
}

/// A quarter of the memory that is free, to leave room for training.
fn free_memory() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let available = read("/proc/meminfo").lines().find_map(|it| {
        let kilobytes = it.strip_prefix("MemAvailable:")?.split_whitespace().next()?;
        Some(kilobytes.parse::<u64>().ok()? << 10)
    });
    let limits = group_limits(&read("/proc/self/cgroup"), Path::new("/sys/fs/cgroup"));
    let least = limits.into_iter().chain(available).min();
    least.map_or(USUAL_MEMORY, |it| it / 4)
}

/// Bytes of memory that Linux's control groups allow this program, which containers and shared machines use: the limits of its group and of
/// those around it, given the lines `number:controllers:group` of `/proc/self/cgroup`. Version 1 has a tree for memory alone, version 2 one
/// tree for everything.
fn group_limits(groups: &str, root: &Path) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let (tree, file, group) = match line.splitn(3, ':').collect::<Vec<_>>()[..] {
            [_, "memory", group] => (root.join("memory"), "memory.limit_in_bytes", group),
            [_, "", group] => (root.to_owned(), "memory.max", group),
            _ => continue,
        };
        for around in Path::new(group.trim_start_matches('/')).ancestors() {
            let limit = std::fs::read_to_string(tree.join(around).join(file)).unwrap_or_default();
            // Without a limit, version 2 says `max`.
            limits.extend(limit.trim().parse::<u64>());
        }
    }
    limits
}

/// Names of the classes that there are training pictures of, in their order. Decodes nothing.
pub fn classes(data: &Path) -> Result<Vec<String>, DataError> {
    Ok(Found::look(data, Subset::Train)?.classes)
}

/// What the training pictures are, at a glance: nothing is decoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Overview {
    /// Names of the classes, in their order.
    pub classes: Vec<String>,
    /// How many pictures there are.
    pub pictures: usize,
    /// Half of the pictures have no shorter side than this.
    pub side: usize,
}

/// Looks at the names of all training pictures, and into some files for their sizes.
pub fn overview(data: &Path) -> Result<Overview, DataError> {
    let found = Found::look(data, Subset::Train)?;
    let step = found.pictures.len().div_ceil(GLANCES).max(1);
    let sides = found.pictures.iter().step_by(step).filter_map(|it| it.1.side());
    let mut sides: Vec<usize> = sides.collect();
    sides.sort_unstable();
    Ok(Overview {
        pictures: found.pictures.len(),
        side: sides.get(sides.len() / 2).copied().unwrap_or(CIFAR_SIDE),
        classes: found.classes,
    })
}

/// What there is to read.
struct Found {
    folder: PathBuf,
    classes: Vec<String>,
    /// Number of the class, and the picture.
    pictures: Vec<(usize, Picture)>,
    /// Files that are left out, by what they are.
    left_out: BTreeMap<String, usize>,
}

/// A picture that is not decoded yet.
enum Picture {
    File(PathBuf),
    /// A record of CIFAR's, without its labels.
    Record {
        file: PathBuf,
        values: Vec<u8>,
    },
}

impl Picture {
    fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Record { file: path, .. } => path,
        }
    }

    /// The shorter side, if its file says.
    fn side(&self) -> Option<usize> {
        match self {
            Self::File(path) => {
                let reader = image::ImageReader::open(path).ok()?.with_guessed_format().ok()?;
                let (width, height) = reader.into_dimensions().ok()?;
                Some(width.min(height) as usize)
            }
            Self::Record { .. } => Some(CIFAR_SIDE),
        }
    }

    /// The picture, and the digest of its file; or why there is none.
    fn decode(&self, preparation: Preparation, size: [usize; 2]) -> Result<(Digest, Decoded), String> {
        match self {
            Self::File(path) => {
                let file = std::fs::read(path).map_err(|it| it.to_string())?;
                let decoded = decode::decode(&file, preparation, size).map_err(|it| it.to_string())?;
                Ok((Digest::of(&file), decoded))
            }
            Self::Record { values, .. } => {
                let plane = CIFAR_SIDE * CIFAR_SIDE;
                let pixel = |at: usize| [values[at], values[plane + at], values[2 * plane + at], 255];
                let rgba: Vec<u8> = (0..plane).flat_map(pixel).collect();
                let from = [CIFAR_SIDE; 2];
                let rgba = preparation.apply(&rgba, from, size).map_err(|it| it.to_string())?;
                let rgb = rgba.chunks_exact(4).flat_map(|it| [it[0], it[1], it[2]]).collect();
                Ok((Digest::of(values), Decoded { rgb, from }))
            }
        }
    }
}

impl Found {
    fn look(data: &Path, subset: Subset) -> Result<Self, DataError> {
        if let Some(folder) = subset.folder(data) {
            return Self::in_folder(folder);
        }
        let cifar = Cifar::find(data, subset).ok_or_else(|| DataError::Layout {
            path: data.to_owned(),
            subset: subset.folders()[0],
        })?;
        cifar.read()
    }

    fn in_folder(folder: PathBuf) -> Result<Self, DataError> {
        let mut found = Self {
            classes: Vec::new(),
            pictures: Vec::new(),
            left_out: BTreeMap::new(),
            folder,
        };
        let mut folders = Vec::new();
        for path in entries(&found.folder)? {
            if path.is_dir() {
                let name = path.file_name().and_then(|it| it.to_str());
                let name: String = name
                    .ok_or_else(|| DataError::Name { path: path.clone() })?
                    .nfc()
                    .collect();
                folders.push((name, path));
            } else {
                found.leave_out(&path);
            }
        }
        folders.sort();
        if let Some(pair) = folders.windows(2).find(|it| it[0].0 == it[1].0) {
            return Err(DataError::Twice {
                folder: found.folder,
                class: pair[0].0.clone(),
            });
        }
        if folders.is_empty() {
            return Err(DataError::Empty {
                path: found.folder.clone(),
                left_out: found.left_out(),
            });
        }
        for (class, path) in folders {
            let label = found.classes.len();
            found.classes.push(class);
            let before = found.pictures.len();
            for file in entries(&path)? {
                if file.is_file() && decode::READ.contains(&extension(&file).as_str()) {
                    found.pictures.push((label, Picture::File(file)));
                } else {
                    found.leave_out(&file);
                }
            }
            if found.pictures.len() == before {
                return Err(DataError::Empty {
                    path,
                    left_out: found.left_out(),
                });
            }
        }
        Ok(found)
    }

    fn leave_out(&mut self, path: &Path) {
        let extension = extension(path);
        let what = if path.is_dir() {
            "folders within a class".to_owned()
        } else if decode::UNREAD.contains(&extension.as_str()) {
            format!(".{extension} (a format that is not read)")
        } else if extension.is_empty() || decode::READ.contains(&extension.as_str()) {
            "other files".to_owned()
        } else {
            format!(".{extension}")
        };
        *self.left_out.entry(what).or_default() += 1;
    }

    fn left_out(&self) -> String {
        let parts: Vec<String> = self
            .left_out
            .iter()
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        if parts.is_empty() {
            String::new()
        } else {
            format!("; left out: {}", parts.join(", "))
        }
    }

    fn describe(&self, subset: Subset, counts: &[usize], sides: &[[usize; 2]; 2]) -> String {
        let [most, least] = [counts.iter().max(), counts.iter().min()].map(|it| it.copied().unwrap_or(0));
        let each = match least == most {
            true => format!("{least} each"),
            false => format!("{least} to {most} each"),
        };
        let [least, most] = sides.map(|[height, width]| format!("{width}×{height}"));
        let sides = if least == most {
            least
        } else {
            format!("{least} to {most}")
        };
        let (total, classes) = (counts.iter().sum::<usize>(), counts.len());
        let subset = subset.folders()[0];
        format!(
            "{subset}: {total} pictures of {classes} classes, {each}, {sides} pixels{}",
            self.left_out()
        )
    }
}

fn extension(path: &Path) -> String {
    path.extension().unwrap_or_default().to_string_lossy().to_lowercase()
}

/// Everything in a folder, sorted by name, without hidden files.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let io = |source| DataError::Io {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.retain(|it| !it.file_name().unwrap_or_default().as_encoded_bytes().starts_with(b"."));
    paths.sort();
    Ok(paths)
}

/// Labelled RGB pictures of one size. Copies share the pixels.
#[derive(Clone, Debug)]
pub struct Dataset {
    store: Arc<Store>,
    /// Places in the store.
    kept: Vec<usize>,
}

#[derive(Debug)]
struct Store {
    classes: Vec<String>,
    /// Rows and columns.
    size: [usize; 2],
    preparation: Preparation,
    labels: Vec<u16>,
    /// Of the files.
    digests: Vec<Digest>,
    pixels: Pixels,
}

/// RGB, picture by picture, row by row.
#[derive(Debug)]
struct Pixels {
    /// Bytes of a picture.
    bytes: usize,
    /// Pictures in memory; those behind them are in the file.
    memory: Vec<u8>,
    file: Option<Mutex<File>>,
}

/// What is decoded so far.
struct Decodings {
    scratch: PathBuf,
    digests: Vec<Digest>,
    /// Rows and columns of the smallest and of the largest picture.
    sides: [[usize; 2]; 2],
    pixels: Pixels,
}

impl Decodings {
    fn new(scratch: &Path, bytes: usize) -> Self {
        Self {
            scratch: scratch.to_owned(),
            digests: Vec::new(),
            sides: [[usize::MAX; 2], [0; 2]],
            pixels: Pixels {
                bytes,
                memory: Vec::new(),
                file: None,
            },
        }
    }

    /// Puts a picture behind the others, into memory if some is left.
    fn add(&mut self, digest: Digest, Decoded { rgb, from }: Decoded, memory: &mut u64) -> Result<(), DataError> {
        let [least, most] = &mut self.sides;
        let area = |it: [usize; 2]| it[0].saturating_mul(it[1]);
        *least = std::cmp::min_by_key(*least, from, |it| area(*it));
        *most = std::cmp::max_by_key(*most, from, |it| area(*it));
        self.digests.push(digest);
        let failed = |source| DataError::Scratch {
            folder: self.scratch.clone(),
            source,
        };
        if self.pixels.file.is_none() && *memory >= rgb.len() as u64 {
            *memory -= rgb.len() as u64;
            self.pixels.memory.extend_from_slice(&rgb);
            return Ok(());
        }
        if self.pixels.file.is_none() {
            let file = tempfile::tempfile_in(&self.scratch).map_err(failed)?;
            self.pixels.file = Some(Mutex::new(file));
        }
        match &self.pixels.file {
            Some(file) => lock(file).write_all(&rgb).map_err(failed),
            None => Ok(()),
        }
    }
}

fn lock(file: &Mutex<File>) -> std::sync::MutexGuard<'_, File> {
    file.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pixels {
    fn get(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let start = index * self.bytes;
        if let Some(pixels) = self.memory.get(start..start + self.bytes) {
            return Ok(Cow::Borrowed(pixels));
        }
        let mut pixels = vec![0; self.bytes];
        if let Some(file) = &self.file {
            let mut file = lock(file);
            let read = file.seek(SeekFrom::Start((start - self.memory.len()) as u64));
            let read = read.and_then(|_| file.read_exact(&mut pixels));
            read.map_err(|source| DataError::Scratch {
                folder: "the run's folder".into(),
                source,
            })?;
        }
        Ok(Cow::Owned(pixels))
    }
}

impl Dataset {
    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether there are no pictures.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Names of the classes, in the order of their labels.
    pub fn classes(&self) -> &[String] {
        &self.store.classes
    }

    /// Rows and columns of each picture.
    pub fn size(&self) -> [usize; 2] {
        self.store.size
    }

    /// Class of picture `index`.
    pub fn label(&self, index: usize) -> usize {
        usize::from(self.store.labels[self.kept[index]])
    }

    /// RGB bytes of picture `index`, row by row. Fails if the temporary file for them does.
    pub fn pixels(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        self.store.pixels.get(self.kept[index])
    }

    /// Pictures of each class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes().len()];
        (0..self.len()).for_each(|it| counts[self.label(it)] += 1);
        counts
    }

    /// Identity of the pictures' files, of their labels, and of how they are prepared.
    pub fn digest(&self) -> Digest {
        let Store {
            size,
            preparation,
            digests,
            ..
        } = &*self.store;
        let mut bytes = format!("{size:?} {preparation:?}").into_bytes();
        for (at, place) in self.kept.iter().enumerate() {
            bytes.extend((self.label(at) as u64).to_le_bytes());
            bytes.extend(digests[*place].as_bytes());
        }
        Digest::of(&bytes)
    }

    /// Pictures of this whose files are among those of another.
    pub fn shared_with(&self, other: &Self) -> usize {
        let digests = |it: &Self| it.kept.iter().map(|at| it.store.digests[*at]).collect::<Vec<_>>();
        let others: std::collections::HashSet<Digest> = digests(other).into_iter().collect();
        digests(self).iter().filter(|it| others.contains(it)).count()
    }

    /// At most `count` pictures, spread evenly over the data, so that every class keeps its share.
    pub fn thinned(&self, count: usize) -> Self {
        let kept = count.min(self.len());
        self.only((0..kept).map(|it| self.kept[it * self.len() / kept.max(1)]).collect())
    }

    /// The same pictures in another order, so that every batch has pictures of many classes.
    pub fn shuffled(&self, seed: u64) -> Self {
        let order = augment::order(seed, 0, self.len());
        self.only(order.into_iter().map(|it| self.kept[it]).collect())
    }

    /// Without every tenth picture, or fewer if that would be many, and those.
    fn hold_back(&self) -> (Self, Self) {
        let every = HELD_BACK.max(self.len().div_ceil(MOST_HELD_BACK));
        let (held, kept): (Vec<_>, Vec<_>) = self.kept.iter().enumerate().partition(|it| it.0 % every == every / 2);
        let places = |it: Vec<(usize, &usize)>| it.into_iter().map(|it| *it.1).collect();
        (self.only(places(kept)), self.only(places(held)))
    }

    /// With all pictures that were read, also those that were thinned out or held back.
    pub fn whole(&self) -> Self {
        self.only((0..self.store.labels.len()).collect())
    }

    fn only(&self, kept: Vec<usize>) -> Self {
        Self {
            store: Arc::clone(&self.store),
            kept,
        }
    }
}

/// CIFAR's own files: records of one or two label bytes and 3 × 32 × 32 bytes, channel by channel.
struct Cifar {
    files: Vec<PathBuf>,
    /// Text file of class names, one a line.
    names: PathBuf,
    label_bytes: usize,
}

/// Side of CIFAR's pictures.
const CIFAR_SIDE: usize = 32;

impl Cifar {
    fn find(dir: &Path, subset: Subset) -> Option<Self> {
        let (ten, hundred) = match subset {
            Subset::Train => ((1..=5).map(|it| format!("data_batch_{it}.bin")).collect(), "train.bin"),
            Subset::Test => (vec!["test_batch.bin".to_owned()], "test.bin"),
            Subset::Validation => return None,
        };
        let candidates = [
            (ten, "batches.meta.txt", 1),
            (vec![hundred.to_owned()], "fine_label_names.txt", 2),
        ];
        candidates
            .into_iter()
            .map(|(files, names, label_bytes)| Self {
                files: files.iter().map(|it| dir.join(it)).collect(),
                names: dir.join(names),
                label_bytes,
            })
            .find(|it| it.files.iter().all(|it| it.is_file()))
    }

    fn read(&self) -> Result<Found, DataError> {
        let names = read(&self.names)?;
        let names = String::from_utf8_lossy(&names);
        let classes = names.lines().map(str::trim).filter(|it| !it.is_empty());
        let mut found = Found {
            folder: self.names.parent().unwrap_or(Path::new(".")).to_owned(),
            classes: classes.map(|it| it.nfc().collect()).collect(),
            pictures: Vec::new(),
            left_out: BTreeMap::new(),
        };
        for path in &self.files {
            self.append(path, &mut found)?;
        }
        Ok(found)
    }

    fn append(&self, path: &Path, found: &mut Found) -> Result<(), DataError> {
        let bytes = read(path)?;
        let record = self.label_bytes + 3 * CIFAR_SIDE * CIFAR_SIDE;
        if bytes.is_empty() || !bytes.len().is_multiple_of(record) {
            return Err(DataError::Records {
                path: path.to_owned(),
                record,
                got: bytes.len(),
            });
        }
        for record in bytes.chunks_exact(record) {
            let (labels, values) = record.split_at(self.label_bytes);
            let label = usize::from(labels[self.label_bytes - 1]);
            if label >= found.classes.len() {
                return Err(DataError::Label {
                    path: path.to_owned(),
                    label,
                    classes: found.classes.len(),
                });
            }
            let (file, values) = (path.to_owned(), values.to_vec());
            found.pictures.push((label, Picture::Record { file, values }));
        }
        Ok(())
    }
}

fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    std::fs::read(path).map_err(|source| DataError::Io {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
impl Dataset {
    /// 16×16 pictures of three classes, each of its own colour under noise.
    pub fn toy(count: usize) -> Self {
        let noise = |at: usize| (augment::mix(at as u64) >> 57) as u8;
        let colour = |at: usize| if at / (3 * 256) % 3 == at % 3 { 64 } else { 0 };
        let pixels: Vec<u8> = (0..count * 3 * 256).map(|it| noise(it) + colour(it)).collect();
        let store = Store {
            classes: ["cat", "dog", "owl"].map(String::from).into(),
            size: [16, 16],
            preparation: Preparation::default(),
            labels: (0..count).map(|it| (it % 3) as u16).collect(),
            digests: pixels.chunks(3 * 256).map(Digest::of).collect(),
            pixels: Pixels {
                bytes: 3 * 256,
                memory: pixels,
                file: None,
            },
        };
        Self {
            store: Arc::new(store),
            kept: (0..count).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
