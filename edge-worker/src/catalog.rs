//! Everything that is served, at one moment: the series and the page.

use std::{
    collections::{BTreeMap, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use split_core::{Digest, Manifest};

use crate::{
    assets::{Asset, REVALIDATE},
    lease::Lease,
    page::Page,
    series::{Series, SeriesError},
};

/// The series by name, and the page.
pub(crate) struct Catalog {
    series: BTreeMap<String, Served>,
    /// Name of the series for clients that name none.
    default: String,
    /// Series of earlier catalogs, the latest last, for the connections that still use them.
    retired: Vec<Retired>,
    /// The list of series, as JSON.
    pub(crate) list: Asset,
    /// The page.
    pub(crate) page: Page,
}

/// A series, and how long connections may use it.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) series: Arc<Series>,
    pub(crate) lease: Lease,
}

/// A series that was replaced. Only its connections keep it in memory.
#[derive(Clone)]
struct Retired {
    series: Weak<Series>,
    lease: Lease,
    /// Until then a client may come back to it.
    until: Instant,
}

/// How many replaced series stay in use. Beyond that, the connections of the oldest end at once: each may take as much memory as the current one.
const MAX_RETIRED: usize = 2;

impl Catalog {
    /// Reads all series of a folder, which may itself be one. What an older catalog has in memory is used again.
    pub(crate) fn load(
        models: &Path,
        default: Option<&str>,
        page: Page,
        older: Option<&Self>,
    ) -> Result<Self, SeriesError> {
        let known: Vec<Arc<Series>> = older.into_iter().flat_map(Self::in_use).collect();
        let mut series = BTreeMap::new();
        let mut linked = Vec::new();
        for Folder { path, is_link } in series_folders(models)? {
            if !is_link && !linked.is_empty() && linked.contains(&Series::name(&path)?) {
                tracing::info!(folder = %path.display(), "another revision is linked, so this one is not served");
                continue;
            }
            let loaded = Series::load(&path, &known)?;
            let name = loaded.manifest.series.clone();
            linked.extend(is_link.then(|| name.clone()));
            // The same one again keeps its connections.
            let current = older
                .and_then(|it| it.series.get(&name))
                .filter(|it| it.series.digest == loaded.digest);
            let lease = current.map(|it| it.lease.clone()).unwrap_or_default();
            if series.insert(name.clone(), Served { series: loaded, lease }).is_some() {
                return Err(SeriesError::Twice {
                    folder: models.into(),
                    name,
                });
            }
        }
        let names: Vec<&str> = series.keys().map(String::as_str).collect();
        let default = default_of(&names, default)?.to_owned();
        let manifests = series.values().map(|it| &it.series.manifest);
        let list =
            serde_json::json!({ "default": default, "series": manifests.map(summary).collect::<Vec<_>>() }).to_string();
        Ok(Self {
            list: Asset::new(list.into(), "application/json", REVALIDATE),
            series,
            default,
            retired: Vec::new(),
            page,
        })
    }

    /// The same catalog after an older one, whose other series connections may use until the grace time has passed.
    pub(crate) fn succeeding(mut self, older: &Self, grace: Duration) -> Self {
        let until = Instant::now() + grace;
        let is_current = |it: &Series| self.series.values().any(|current| current.series.digest == it.digest);
        let replaced = older
            .series
            .values()
            .filter(|it| !is_current(&it.series))
            .map(|it| Retired {
                series: Arc::downgrade(&it.series),
                lease: it.lease.clone(),
                until,
            });
        let retired = older.retired.iter().cloned().chain(replaced);
        self.retired = retired.filter(|it| it.series.strong_count() > 0).collect();
        self.retired.iter().for_each(|it| it.lease.replace());
        let beyond = self.retired.len().saturating_sub(MAX_RETIRED);
        self.retired.drain(..beyond).for_each(|it| it.lease.end());
        self
    }

    /// The series of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Series>> {
        self.series.get(name).map(|it| &it.series)
    }

    /// The series for clients that name none.
    pub(crate) fn default(&self) -> Option<&Arc<Series>> {
        self.named(&self.default)
    }

    /// The series whose manifest has this digest; one that was replaced only until the grace time has passed.
    pub(crate) fn by_digest(&self, digest: &Digest) -> Option<Served> {
        let now = Instant::now();
        let retired = self.retired.iter().filter(|it| now < it.until).filter_map(|it| {
            Some(Served {
                series: it.series.upgrade()?,
                lease: it.lease.clone(),
            })
        });
        self.series
            .values()
            .cloned()
            .chain(retired)
            .find(|it| it.series.digest == *digest)
    }

    /// The segment or codec at this path beside a manifest, whichever series it is part of.
    pub(crate) fn file(&self, path: &str) -> Option<Asset> {
        self.in_use().find_map(|it| it.file(path).cloned())
    }

    /// The longest message that any client has reason to send, in bytes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        self.in_use().map(|it| it.max_message_bytes()).max().unwrap_or_default()
    }

    /// Every series of today, by name.
    pub(crate) fn series(&self) -> impl Iterator<Item = &Arc<Series>> {
        self.series.values().map(|it| &it.series)
    }

    fn in_use(&self) -> impl Iterator<Item = Arc<Series>> {
        let retired = self.retired.iter().filter_map(|it| it.series.upgrade());
        self.series().cloned().chain(retired)
    }
}

/// What a client can know of a series before it loads the manifest.
fn summary(manifest: &Manifest) -> serde_json::Value {
    let points = &manifest.operating_points;
    let downloads = points
        .iter()
        .map(|it| manifest.device_files(it).map(|it| it.bytes).sum::<u64>());
    // Points whose head is empty say nothing of what the others take.
    let bytes = downloads.filter(|it| *it > 0);
    serde_json::json!({
        "name": manifest.series,
        "network": manifest.source.network,
        "classes": manifest.classes.len(),
        "width": manifest.input.shape.width(),
        "height": manifest.input.shape.height(),
        "accuracy": points.iter().map(|it| it.accuracy).fold(0.0, f64::max),
        "least_bytes": bytes.clone().min().unwrap_or_default(),
        "most_bytes": bytes.max().unwrap_or_default(),
    })
}

/// The series that is meant by those who name none: the one that was set, or the only one.
fn default_of<'a>(names: &[&'a str], set: Option<&str>) -> Result<&'a str, SeriesError> {
    let chosen = match (set, names) {
        (Some(set), _) => names.iter().find(|it| **it == set),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    chosen.copied().ok_or_else(|| SeriesError::Default {
        set: set.map(Into::into),
        names: names.join(", "),
    })
}

/// A folder with a series.
struct Folder {
    path: PathBuf,
    is_link: bool,
}

/// The folders of the series, links first, which are `models` itself or lie in it.
///
/// A folder and a link to it are one, and of several revisions of which one is linked, as git-sync leaves them, that one counts.
/// Hidden folders are what links lead to.
fn series_folders(models: &Path) -> Result<Vec<Folder>, SeriesError> {
    let is_series = |it: &Path| it.join("manifest.json").is_file();
    if is_series(models) {
        let path = models.into();
        return Ok(vec![Folder { path, is_link: false }]);
    }
    let read = |cause: io::Error| SeriesError::Read {
        path: models.into(),
        cause,
    };
    let mut folders = Vec::new();
    for entry in fs::read_dir(models).map_err(read)? {
        let entry = entry.map_err(read)?;
        let path = entry.path();
        let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !is_hidden && is_series(&path) {
            let is_link = entry.file_type().map_err(read)?.is_symlink();
            folders.push(Folder { path, is_link });
        }
    }
    folders.sort_by(|one, other| (other.is_link, &one.path).cmp(&(one.is_link, &other.path)));
    let mut targets = HashSet::new();
    let mut found = Vec::new();
    for folder in folders {
        if targets.insert(fs::canonicalize(&folder.path).map_err(read)?) {
            found.push(folder);
        }
    }
    match found.is_empty() {
        true => Err(SeriesError::NoSeries { folder: models.into() }),
        false => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use split_tests::toy::{Recipe, Toy};

    use super::*;

    #[test]
    fn what_is_equal_is_in_memory_once() {
        let folder = tempfile::tempdir().unwrap();
        let toy = Toy::new(&Recipe::default()).unwrap();
        toy.write(folder.path()).unwrap();
        let load = |older| Catalog::load(folder.path(), None, Page::default(), older).unwrap();
        let first = load(None);
        let again = load(Some(&first)).succeeding(&first, Duration::ZERO);
        assert!(Arc::ptr_eq(first.default().unwrap(), again.default().unwrap()));
        assert!(again.retired.is_empty());

        // The same networks under another digest.
        fs::write(folder.path().join("manifest.json"), [&toy.json[..], b" "].concat()).unwrap();
        let changed = load(Some(&again)).succeeding(&again, Duration::ZERO);
        let [old, new] = [&again, &changed].map(|it| it.default().unwrap());
        assert!(!Arc::ptr_eq(old, new));
        assert!(new.shares_all_with(old));
        assert_eq!(changed.retired.len(), 1);
    }
}
