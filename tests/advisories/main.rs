//! What published advisories of runc, crun, youki, containerd and CRI-O describe, tried on rt. SECURITY.md names the
//! advisories of each test; those with a test elsewhere are not repeated here.

#[path = "../common/mod.rs"]
mod common;

mod config;
mod dev;
mod host;
mod ids;
mod links;
mod proc;
mod race;

/// The last cell of each row of SECURITY.md's table: `FILE TEST`, …
#[test]
fn every_test_that_the_table_of_advisories_names_is_there() {
    let tree = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(tree.join("SECURITY.md")).expect("SECURITY.md");
    let cells = table.lines().filter_map(|line| line.strip_suffix(" |")?.rsplit(" | ").next());
    let named: Vec<_> = cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .filter_map(|code| code.split_once(' '))
        .collect();
    assert!(named.len() > 30, "{named:?}");
    for (file, test) in named {
        let (module, name) = test.rsplit_once("::").unwrap_or(("main", test));
        let file = file.replace("::", "/");
        let places = [
            format!("tests/{file}.rs"),
            format!("tests/{file}/{module}.rs"),
            format!("src/runtime/{file}.rs"),
        ];
        let is_there = places.iter().any(|place| {
            let text = std::fs::read_to_string(tree.join(place)).unwrap_or_default();
            text.contains(&format!("fn {name}()"))
        });
        assert!(is_there, "{file}: {test} is in none of {places:?}");
    }
}
