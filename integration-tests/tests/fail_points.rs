//! What only tests may do to a server stays with the tests.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::Path;

fn text(of: &Path) -> String {
    std::fs::read_to_string(of.join("Cargo.toml")).unwrap()
}

fn manifest(of: &Path) -> toml::Table {
    text(of).parse().unwrap()
}

#[test]
fn no_product_turns_the_fail_points_on() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let features = manifest(&root.join("aiki-server"))["features"].as_table().unwrap().clone();
    assert!(features.contains_key("fail-points"), "it has another name: {features:?}");
    for (name, of) in &features {
        let of = of.as_array().unwrap();
        assert!(!of.iter().any(|one| one.as_str() == Some("fail-points")), "the feature {name} turns them on");
    }
    let workspace = manifest(root);
    let members = workspace["workspace"]["members"].as_array().unwrap();
    let members = members.iter().map(|member| member.as_str().unwrap());
    let turn_on: Vec<&str> = members
        .filter(|member| *member != "aiki-server")
        .filter(|member| text(&root.join(member)).contains("fail-points"))
        .collect();
    assert_eq!(turn_on, ["integration-tests"]);
    assert_eq!(manifest(&root.join("integration-tests"))["package"]["publish"].as_bool(), Some(false));
    assert!(!text(root).contains("fail-points"), "the workspace turns them on for everybody");
    let image = std::fs::read_to_string(root.join("Dockerfile")).unwrap();
    assert!(image.contains("-p aiki-server --bin aiki-server") && !image.contains("--workspace"), "{image}");
}
