//! What `deploy/` holds, for real.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::{Edge, http};

/// A file of `deploy/`.
pub fn deployed(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    fs::read_to_string(folder.join(file)).unwrap()
}

/// Every row of the table of faults ends with the tests that show the answer.
#[test]
fn the_table_of_faults_names_tests_that_exist() {
    let table = deployed("../docs/faults.md");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources: String = ["src", "tests/it", "../trainer/tests/it"]
        .iter()
        .flat_map(|it| fs::read_dir(here.join(it)).unwrap())
        .map(|it| fs::read_to_string(it.unwrap().path()).unwrap())
        .collect();
    let rows = table
        .lines()
        .filter(|it| it.starts_with("| ") && !it.starts_with("| ---") && !it.starts_with("| fault"));
    for row in rows {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        for test in tests.split(", ").map(|it| it.trim_matches('`')) {
            assert!(sources.contains(&format!("fn {test}()")), "{test}");
        }
    }
}

/// Names of metrics in a text, without the endings that histograms add.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    let endings = ["_bucket", "_sum", "_count"];
    words
        .filter(|it| it.starts_with("edge_") && !it.ends_with("_mean"))
        .map(|it| endings.iter().find_map(|ending| it.strip_suffix(ending)).unwrap_or(it))
        .collect()
}

#[tokio::test]
async fn the_dashboard_and_the_autoscaler_name_metrics_that_exist() {
    let edge = Edge::with(&Default::default(), |it| it.limits.credit = 1).await;
    edge.assert_serves().await;
    // Counters by label exist from their first event on.
    let mut client = edge.client().await;
    client.ask(u16::MAX, b"x").await.unwrap();
    assert_eq!(edge.get("/v1/infer", &[]).await.status, 426);
    let exported = http(edge.admin, "GET", "/metrics", &[]).await.text();
    let exported = metrics_in(&exported);
    for file in ["grafana-dashboard.json", "kubernetes/prometheus-adapter.yaml"] {
        let text = deployed(file);
        let named = metrics_in(&text);
        assert!(!named.is_empty());
        let unknown: Vec<_> = named
            .difference(&exported)
            .filter(|it| **it != "edge_busy_total")
            .collect();
        assert!(
            unknown.is_empty(),
            "{file} names {unknown:?}, which the edge worker does not export"
        );
    }
}
