//! The page as people read it. The same claims always give the same page.

use std::fmt::Write;

use super::CLAIMS;
use super::claims::{Claims, Operation, Place};

const HEAD: &str = "\
# Compatibility

What software written for Azure IoT Hub and Azure IoT Edge does with Skerry. Whatever this page says works was shown by tests
of this repository, all of which passed; [tests/compatibility.toml](../../tests/compatibility.toml) names them for every line.
`cargo xtask test` runs them and fails if this page says anything else; `cargo xtask compatibility` then writes it.

The clients are Azure's own, unmodified, as published:
";

const TABLE: &str = "
## Devices and modules

On `azure-iot-device`, in five places:

* **yes**: a test does this there, and passed
* **not tested**: it may work, but nothing shows that it does
* **–**: there is no such thing there
";

const MISSING: &str = "
## Not there yet

Parts of the platform that Skerry does not have, and what a client gets that asks for them; where a test shows it, `yes`.
";

/// `versions` are those of the clients, in their order.
pub(crate) fn render(claims: &Claims, versions: &[String]) -> String {
    let mut page =
        format!("<!-- Written by `cargo xtask compatibility` from {CLAIMS}; changes here are lost. -->\n\n{HEAD}\n");
    page += &row(["client", "version", "for"]);
    page += &row(["---"; 3]);
    for (client, version) in claims.client.iter().zip(versions) {
        page += &row([format!("`{}`", client.name).as_str(), version, &client.what]);
    }

    page += TABLE;
    page.push('\n');
    let titles = claims.place.iter().map(|place| place.title.as_str());
    page += &row(["operation"].into_iter().chain(titles));
    page += &row(["---"].into_iter().chain(claims.place.iter().map(|_| ":-:")));
    for operation in &claims.operation {
        let cells = claims.place.iter().map(|place| cell(operation, place));
        page += &row([operation.what.as_str()].into_iter().chain(cells));
    }

    for section in &claims.section {
        let about = section.about.iter().map(|about| format!("\n{}\n", about.trim()));
        let _ = write!(page, "\n## {}\n{}\n", section.title, about.collect::<String>());
        for claim in &section.claim {
            let _ = writeln!(page, "* {}", claim.what);
        }
    }

    page += MISSING;
    page.push('\n');
    page += &row(["what", "what happens", "tested"]);
    page += &row(["---", "---", ":-:"]);
    for missing in &claims.missing {
        let tested = if missing.tests.is_empty() { "not tested" } else { "yes" };
        page += &row([missing.what.as_str(), &missing.answer, tested]);
    }
    page
}

fn cell(operation: &Operation, place: &Place) -> &'static str {
    match () {
        () if operation.tests.contains_key(&place.key) => "yes",
        () if operation.none.contains(&place.key) => "–",
        () => "not tested",
    }
}

/// One line of a table.
fn row<'a>(cells: impl IntoIterator<Item = &'a str>) -> String {
    let mut line = "|".to_owned();
    for cell in cells {
        let _ = write!(line, " {} |", cell.replace('|', "\\|"));
    }
    line + "\n"
}
