//! The dashboard in real browsers: two users view one machine and each other, and hide their pages.

#![allow(missing_docs, reason = "tests")]

use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use stage::{Driver, Program, Tab};

const HOSTILE: &str = r#"<img src=x onerror="window.hacked=1">"#;

fn sign_in(tab: &Tab<'_>, program: &Program, name: &str) {
    tab.open(&program.url("/"));
    tab.wait_for("return document.querySelector('#door') && !document.querySelector('#door').hidden");
    tab.fill("#name", name);
    tab.click("#door button");
    tab.wait_for("return document.querySelector('#state').dataset.state === 'open'");
}

fn show_page(tab: &Tab<'_>, page: &str) {
    tab.click(&format!("nav [data-page={page}]"));
}

/// The tile of a metric, by its name.
fn tile(name: &str) -> String {
    format!("[...document.querySelectorAll('.tile')].find((tile) => tile.dataset.name === {})", json!(name))
}

fn wait_for_value(tab: &Tab<'_>, name: &str, value: &str) {
    let tile = tile(name);
    tab.wait_for(&format!("return {tile}?.querySelector('.value').textContent === {}", json!(value)));
}

/// Whether something was drawn: pixels that are not transparent.
fn is_drawn(canvas: &str) -> String {
    format!(
        "const canvas = {canvas}; if (!canvas?.width) return false;
         const {{ data }} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
         return data.some((part) => part > 0)"
    )
}

fn post(program: &Program, token: &str, name: &str, value: Value) {
    let answer = program.ask("POST", "/metrics", Some(token), Some(&json!({ "name": name, "value": value })));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Waits for the next reading.
fn wait_for_update(tab: &Tab<'_>) {
    let latest = "return document.querySelector('#machine').dataset.latest";
    let before = tab.run(latest);
    tab.wait_for(&format!("{latest} !== {before}"));
}

/// Takes a picture for a person to look at.
fn picture(tab: &Tab<'_>, name: &str) {
    tab.screenshot(&Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("dashboard-{name}.png")));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn two_people_look_at_one_machine() {
    let mut program = Program::start("dashboard", env!("CARGO_BIN_EXE_dashboard"));
    let driver = Driver::start();
    let (desk, phone) = (driver.tab(1280, 800), driver.tab(390, 844));
    sign_in(&desk, &program, "ada");
    sign_in(&phone, &program, "bob");
    let token = program.login("cron");

    // Real figures: two connections, and whatever else this machine does.
    for tab in [&desk, &phone] {
        wait_for_value(tab, "library.connections", "2");
        let memory = tile("process.memory");
        tab.wait_for(&format!("return /^[0-9.]+ MiB$/.test({memory}?.querySelector('.value').textContent)"));
        tab.wait_for(&is_drawn("document.querySelector('#cpu')"));
        tab.wait_for(&is_drawn("document.querySelector('.tile canvas')"));
    }

    // As crisp as the screen is.
    let screen = |scale: u32| json!({"width": 390, "height": 844, "deviceScaleFactor": scale, "mobile": false});
    for scale in [3, 1] {
        phone.devtools("Emulation.setDeviceMetricsOverride", &screen(scale));
        let is_crisp = format!("canvas => canvas.width === Math.round(canvas.clientWidth * {scale})");
        phone.wait_for(&format!("return [...document.querySelectorAll('canvas')].every({is_crisp})"));
    }

    // What another program posts is there at once, on both.
    for value in [41, 42, 57, 49, 63] {
        post(&program, &token, "orders", json!(value));
        post(&program, &token, "queue length", json!(value * 3 % 17));
    }
    for tab in [&desk, &phone] {
        wait_for_value(tab, "orders", "63");
    }
    // And from the page itself. What the server has against it is said beside the form.
    desk.fill("#post [name=name]", "sales");
    desk.fill("#post [name=value]", "0.05");
    desk.click("#post button");
    wait_for_value(&phone, "sales", "0.05");
    desk.fill("#post [name=name]", "machine.cpu");
    desk.click("#post button");
    desk.wait_for("return document.querySelector('#post .problem').textContent.includes('measures itself')");
    desk.fill("#post [name=name]", "sales");
    desk.click("#post button");
    desk.wait_for("return document.querySelector('#post .problem').textContent === ''");

    // The users, their pages, and whether they are idle.
    show_page(&phone, "alerts");
    show_page(&desk, "activity");
    let of = |user: &str| format!("document.querySelector('#users [data-user={user}]')?.textContent");
    desk.wait_for(&format!("return {}?.includes('on activity')", of("ada")));
    desk.wait_for(&format!("return {}?.includes('on alerts')", of("bob")));
    desk.wait_for("return document.querySelector('#people').textContent === '2'");
    desk.wait_for(&format!("return {}?.includes('idle for')", of("bob")));
    phone.run("document.dispatchEvent(new Event('pointermove', { bubbles: true }))");
    desk.wait_for(&format!("return !{0}?.includes('idle') && {0}.includes('active')", of("bob")));
    picture(&desk, "activity");

    // A threshold raises one alert, and clears it, for both.
    phone.run(
        "const select = document.querySelector('#threshold [name=metric]'); select.value = 'orders';
         select.dispatchEvent(new Event('change'))",
    );
    phone.fill("#threshold [name=limit]", "100");
    phone.click("#threshold button");
    phone.wait_for("return document.querySelectorAll('#thresholds li').length === 1");
    post(&program, &token, "orders", json!(120));
    for tab in [&desk, &phone] {
        tab.wait_for("return !document.querySelector('#raised').hidden");
    }
    show_page(&desk, "alerts");
    let log = "[...document.querySelectorAll('#log li')].map((item) => item.dataset.raised).join()";
    desk.wait_for(&format!("return {log} === 'true'"));
    post(&program, &token, "orders", json!(130));
    post(&program, &token, "orders", json!(60));
    phone.wait_for(&format!("return {log} === 'false,true'"));
    post(&program, &token, "orders", json!(140));
    desk.wait_for(&format!("return {log} === 'true,false,true'"));
    picture(&phone, "alerts");
    show_page(&desk, "overview");
    show_page(&phone, "overview");
    desk.wait_for(&format!("return {}?.classList.contains('alarm')", tile("orders")));

    // A while of values, for the charts in the pictures.
    for number in 0..30 {
        post(&program, &token, "orders", json!(40 + number * 7 % 23));
        post(&program, &token, "queue length", json!(number * 5 % 13));
        post(&program, &token, "sales", json!(f64::from(number * 11 % 17) / 20.0));
        thread::sleep(Duration::from_millis(100));
    }
    post(&program, &token, "orders", json!(117));
    for tab in [&desk, &phone] {
        tab.run("document.querySelector('#overview').scrollTop = 0");
        tab.wait_for(&format!("return {}?.classList.contains('alarm')", tile("orders")));
        wait_for_update(tab);
    }
    picture(&desk, "desk");
    picture(&phone, "phone");
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    desk.devtools("Emulation.setEmulatedMedia", &dark);
    phone.devtools("Emulation.setEmulatedMedia", &dark);
    desk.wait_for("return matchMedia('(prefers-color-scheme: dark)').matches");
    for tab in [&desk, &phone] {
        wait_for_update(tab);
    }
    picture(&desk, "desk-dark");
    picture(&phone, "phone-dark");
    desk.devtools("Emulation.setEmulatedMedia", &json!({"features": []}));

    // Markup in a metric's name is text. In a user's name, too: see the end.
    post(&program, &token, HOSTILE, json!(1));
    for tab in [&desk, &phone] {
        wait_for_value(tab, HOSTILE, "1");
        let name = format!("{}?.querySelector('.name').textContent", tile(HOSTILE));
        assert_eq!(tab.run(&format!("return {name}")), json!(HOSTILE));
        assert_eq!(tab.run("return [document.images.length, window.hacked === undefined]"), json!([0, true]));
    }

    // A page that is not seen is sent nothing: ada has another tab in front.
    let dashboard = desk.window();
    desk.run(
        "window.changes = [];
         const note = () => { if (document.hidden) changes.push(Date.now()); };
         new MutationObserver(note).observe(document.querySelector('#overview'), { childList: true, subtree: true })",
    );
    desk.open_window();
    let looking = format!("return {}?.querySelector('.more').textContent", tile("library.connections"));
    phone.wait_for(&format!("{looking} === '1 looking'"));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970").as_millis();
    show_page(&phone, "activity");
    phone.wait_for(&format!("return {}?.includes('not looking')", of("ada")));
    show_page(&phone, "overview");
    post(&program, &token, "orders", json!(1234));
    wait_for_value(&phone, "orders", "1,234");
    for _ in 0..2 {
        wait_for_update(&phone);
    }
    // Seen again it begins with a snapshot.
    desk.switch_to(&dashboard);
    desk.devtools("Page.bringToFront", &json!({}));
    desk.wait_for("return !document.hidden");
    wait_for_value(&desk, "orders", "1,234");
    phone.wait_for(&format!("{looking} === '2 looking'"));
    assert_eq!(desk.run(&format!("return changes.filter((time) => time > {since})")), json!([]), "the page was hidden");

    // What is not watched any more raises no alert.
    show_page(&phone, "alerts");
    phone.click("#thresholds button");
    phone.wait_for("return document.querySelectorAll('#thresholds li').length === 0");
    desk.wait_for("return document.querySelector('#raised').hidden");
    show_page(&phone, "overview");

    // The server is killed, and comes back with a new board. Both pages find it by themselves.
    program.kill();
    for tab in [&desk, &phone] {
        tab.wait_for("return document.querySelector('#state').dataset.state !== 'open'");
    }
    program.start_again();
    for tab in [&desk, &phone] {
        tab.wait_for("return document.querySelector('#state').dataset.state === 'open'");
        wait_for_value(tab, "library.connections", "2");
        tab.wait_for("return document.querySelectorAll('#metrics .tile').length === 0");
    }
    post(&program, &token, "orders", json!(7));
    for tab in [&desk, &phone] {
        wait_for_value(tab, "orders", "7");
    }
    // Markup in a user's name is text, too.
    drop(phone);
    let guest = driver.tab(390, 844);
    let name = "<img onerror=hacked=1 src=x>";
    sign_in(&guest, &program, name);
    show_page(&desk, "activity");
    desk.wait_for(&format!(
        "return [...document.querySelectorAll('#users .main')].some((main) => main.firstChild.data === {})",
        json!(name)
    ));
    assert_eq!(desk.run("return [document.images.length, typeof hacked]"), json!([0, "undefined"]));
    let (status, took) = program.interrupt();
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
}
