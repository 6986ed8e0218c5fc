//! config/prometheus.yml, grafana.json and alerts.yml: what they ask for is there.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::support::cluster::Cluster;
use super::super::support::http;
use super::super::support::yaml;
use super::{file, list, manifest, named, object, text};

/// What a running node exposes: each family's name and type.
fn families(exposition: &str) -> BTreeMap<&str, &str> {
    let types = exposition
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.collect()
}

/// The type of a series: a histogram's family has three.
fn type_of<'a>(families: &BTreeMap<&str, &'a str>, series: &str) -> Option<&'a str> {
    let histogram = |suffix: &str| {
        let family = series.strip_suffix(suffix)?;
        families.get(family).filter(|kind| **kind == "histogram")
    };
    let whole = families.get(series).filter(|kind| **kind != "histogram");
    let parts = ["_bucket", "_sum", "_count"];
    whole.or_else(|| parts.into_iter().find_map(histogram)).copied()
}

/// Where our series stand in an expression, with what is before them.
fn series(expression: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (at, _) in expression.match_indices("anabranch_") {
        let end = expression[at..]
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .map_or(expression.len(), |length| at + length);
        found.push((&expression[..at], &expression[at..end]));
    }
    found
}

/// Whether an expression asks for the growth of what follows, or for how far it grew.
fn is_counted(before: &str) -> bool {
    ["rate(", "increase(", "max_over_time("]
        .iter()
        .any(|asked| before.ends_with(asked))
}

/// All values of this key, however deep.
fn values<'a>(of: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match of {
        Value::Object(members) => {
            for (name, value) in members {
                if name == key {
                    found.push(value);
                }
                values(value, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| values(item, key, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_shows_what_nodes_count() {
    let cluster = Cluster::start("ops-dashboard", 1);
    let exposition = http::get(&cluster.nodes[0].http, "/metrics").unwrap().body;
    let families = families(&exposition);
    let dashboard: Value = serde_json::from_str(&file("config/grafana.json")).unwrap();

    let mut expressions = Vec::new();
    for key in ["expr", "definition"] {
        values(&dashboard, key, &mut expressions);
    }
    let mut shown = 0;
    for expression in expressions.into_iter().map(text) {
        let series = series(expression);
        assert!(!series.is_empty(), "{expression} has no series of ours");
        for (before, name) in series {
            let kind = type_of(&families, name)
                .unwrap_or_else(|| panic!("{name} in {expression} is not in /metrics"));
            // What only grows is shown as a rate; what goes down is not.
            let counted = is_counted(before);
            assert_eq!(counted, kind != "gauge", "{name}, a {kind}, in {expression}");
            shown += 1;
        }
    }
    assert!(shown > 25, "{shown}");
    // What whoever runs nodes must not miss.
    let text = dashboard.to_string();
    for name in [
        "anabranch_http_requests_total",
        "anabranch_http_watches_open",
        "anabranch_ingress_requests_total",
        "anabranch_lost_runs_total",
        "anabranch_snapshot_failed",
        "anabranch_disk_refused",
    ] {
        assert!(text.contains(name), "no panel has {name}");
    }

    // No panel stands on another, each has a number of its own.
    let panels = list(&dashboard["panels"]);
    let mut taken = BTreeMap::new();
    for panel in panels {
        let place = |member: &str| panel["gridPos"][member].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{panel}");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert_eq!(taken.insert((x, y), &panel["title"]), None, "{panel}");
            }
        }
    }
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len());
}

#[test]
fn alerts_are_of_what_nodes_count() {
    let documents = yaml::documents(&file("config/alerts.yml"));
    let [rules] = &documents[..] else {
        panic!("{documents:?}")
    };
    let cluster = Cluster::start("ops-alerts", 1);
    let exposition = http::get(&cluster.nodes[0].http, "/metrics").unwrap().body;
    let families = families(&exposition);
    let mut asked = BTreeSet::new();
    let mut names = BTreeSet::new();
    for rule in list(&rules["groups"])
        .iter()
        .flat_map(|group| list(&group["rules"]))
    {
        let (name, expression) = (text(&rule["alert"]), text(&rule["expr"]));
        assert!(names.insert(name.to_string()), "{name} is there twice");
        for (before, series) in series(expression) {
            let kind =
                type_of(&families, series).unwrap_or_else(|| panic!("{series} of {name} is not in /metrics"));
            let counted = is_counted(before);
            assert_eq!(counted, kind != "gauge", "{series}, a {kind}, in {name}");
            asked.insert(series.to_string());
        }
        assert!(
            ["page", "ticket"].contains(&text(&rule["labels"]["severity"])),
            "{name}"
        );
        for annotation in ["summary", "description"] {
            assert!(!text(&rule["annotations"][annotation]).is_empty(), "{name}");
        }
    }
    for series in [
        "anabranch_ready",
        "anabranch_disk_full",
        "anabranch_disk_failed",
        "anabranch_disk_refused",
        "anabranch_snapshot_failed",
        "anabranch_lost_runs_total",
        "anabranch_fingerprint_mismatches_total",
        "anabranch_http_requests_total",
        "anabranch_ingress_requests_total",
    ] {
        assert!(asked.contains(series), "no alert of {series}");
    }
}

#[test]
fn prometheus_asks_where_nodes_answer() {
    let documents = yaml::documents(&file("config/prometheus.yml"));
    let [configuration] = &documents[..] else {
        panic!("{documents:?}")
    };
    for rules in list(&configuration["rule_files"]) {
        file(&format!("config/{}", text(rules)));
    }
    let jobs = list(&configuration["scrape_configs"]);
    assert_eq!(jobs.len(), 2);
    let cluster = Cluster::start("ops-prometheus", 1);
    for job in jobs {
        let reply = http::get(&cluster.nodes[0].http, text(&job["metrics_path"])).unwrap();
        assert_eq!(reply.status, 200);
        assert!(reply.body.contains("anabranch_ready 1\n"), "{reply:?}");
        // The scheme of the token's header, as the guard reads it.
        assert_eq!(job["authorization"]["type"], "Bearer");
    }

    let defaults: toml::Table = toml::from_str(&file("config/node.toml")).unwrap();
    let (_, port) = defaults["http"]["listen"]
        .as_str()
        .unwrap()
        .rsplit_once(':')
        .unwrap();
    let machines = named_job(jobs, "anabranch");
    for target in list(&machines["static_configs"][0]["targets"]) {
        let (_, of_target) = text(target).rsplit_once(':').unwrap();
        assert_eq!(of_target, port);
    }

    let pods = named_job(jobs, "anabranch-pods");
    let keep = &pods["relabel_configs"][0];
    let set = object(&manifest(), "StatefulSet", "anabranch");
    let labels = set["spec"]["template"]["metadata"]["labels"].as_object().unwrap();
    let (label, value) = labels.iter().next().unwrap();
    let label: String = label
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    let label = format!("__meta_kubernetes_pod_label_{label}");
    assert_eq!(keep["source_labels"][0], label.as_str());
    assert_eq!(
        keep["source_labels"][1],
        "__meta_kubernetes_pod_container_port_name"
    );
    let container = named(&set["spec"]["template"]["spec"]["containers"], "anabranch");
    let admin = named(&container["ports"], "admin");
    assert_eq!(admin["containerPort"].to_string(), port);
    let regex = format!("{};{}", text(value), text(&admin["name"]));
    assert_eq!(keep["regex"], regex.as_str());
    assert_eq!(keep["action"], "keep");
}

fn named_job<'a>(jobs: &'a [Value], name: &str) -> &'a Value {
    let found = jobs.iter().find(|job| job["job_name"] == name);
    found.unwrap_or_else(|| panic!("no job {name}"))
}
