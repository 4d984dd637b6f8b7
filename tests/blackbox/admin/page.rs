//! The commands of the documentation, each run.

use std::fs;
use std::process::Command;

use super::tokens::write_lines;
use super::{Managed, SHOP};
use crate::harness::{Site, access_log, beside, repository};

/// What the page's logstore is.
const ACCESS: &str = "
- name: shop/nginx-access
  files: { root: logs }
  plugins: [{ use: nginx, settings: { format: main } }]
  sink: out
";

/// The blocks of commands of a page, in their order.
fn commands(page: &str) -> Vec<&str> {
    let blocks = page.split("```sh\n").skip(1);
    blocks.map(|block| block.split_once("```").expect("the block has an end").0).collect()
}

#[test]
fn the_commands_of_the_page_work() {
    let page = fs::read_to_string(repository().join("docs/admin.md")).unwrap();
    let managed = Managed::new(Site::new(), ACCESS);
    let site = &managed.site;
    site.write("logs/access.log", access_log(1000));
    site.write("nginx.wasm", super::wasm("nginx"));
    let mut agent = managed.start();
    agent.wait_for_lines("shop/nginx-access", 1000);
    let blocks = commands(&page);
    assert!(blocks.len() >= 4, "{blocks:?}");
    let here = |text: &str| {
        let text = text.replace("127.0.0.1:9480", &format!("127.0.0.1:{}", managed.port));
        // The configuration has a token for the operator here.
        text.replace("$(cat /var/lib/weir/admin.token)", super::OPERATOR).replace("$SHOP_TOKEN", SHOP)
    };
    let script = here(&blocks.concat());
    let ((), output) = beside(
        |is_done| write_lines(site, is_done),
        || Command::new("sh").args(["-euxc", &script]).current_dir(site.path("")).output().unwrap(),
    );
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stdout));
    agent.stop();
}
