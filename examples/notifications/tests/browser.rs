//! The page, used by two people in real browsers.

#![allow(missing_docs, reason = "tests")]

use std::path::PathBuf;

use serde_json::json;
use stage::{Driver, Program, Tab};

fn start() -> Program {
    Program::start("notifications", env!("CARGO_BIN_EXE_notifications"))
}

fn is_open(tab: &Tab<'_>) {
    tab.wait_for("return document.querySelector('#state').dataset.state === 'open'");
}

/// Goes in at the door, as a person does.
fn enter(tab: &Tab<'_>, program: &Program, name: &str) {
    tab.open(&program.url("/"));
    tab.fill("#name", name);
    tab.click("#door button");
    is_open(tab);
}

/// Sends a notification by the form, and waits for the page's answer.
fn notify(tab: &Tab<'_>, to: &str, priority: &str, text: &str, answer: &str) {
    tab.fill("#to", to);
    tab.click(&format!("#compose input[value={priority}] + span"));
    tab.fill("#text", text);
    tab.click("#compose .bar button");
    let answer = json!(answer);
    tab.wait_for(&format!("return document.querySelector('#answer').textContent === {answer}"));
    // It is ready for the next one.
    tab.wait_for("return document.querySelector('#text').value === '' && !document.querySelector('#compose').inert");
}

/// Waits until these are the unread notifications, latest first, in the list, the badge and the title.
fn wait_for_unread(tab: &Tab<'_>, expected: &[(&str, &str)]) {
    let expected_items =
        json!(expected.iter().map(|(priority, text)| format!("{priority}: {text}")).collect::<Vec<_>>());
    tab.wait_for(&format!(
        "const items = [...document.querySelectorAll('#list .item:not(.read)')];
         const texts = items.map((item) =>
            item.querySelector('.mark').textContent + ': ' + item.querySelector('.text').textContent);
         return JSON.stringify(texts) === JSON.stringify({expected_items})"
    ));
    let count = expected.len();
    let title = if count > 0 { format!("({count}) Notifications") } else { "Notifications".into() };
    tab.wait_for(&format!("return document.title === '{title}'"));
    let badge =
        if count > 0 { format!("badge.textContent === '{count}' && !badge.hidden") } else { "badge.hidden".into() };
    tab.wait_for(&format!("return [...document.querySelectorAll('.badge')].every((badge) => {badge})"));
}

fn click_read(tab: &Tab<'_>, text: &str) {
    let text = json!(text);
    tab.run(&format!(
        "[...document.querySelectorAll('.item')].find((item) => item.querySelector('.text').textContent === {text})
            .querySelector('button').click()"
    ));
}

/// Takes a picture once nothing moves.
fn picture(tab: &Tab<'_>, name: &str) {
    tab.wait_for("return document.getAnimations().length === 0");
    tab.screenshot(&PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn what_ada_says_waits_for_bob_until_he_reads_it_whatever_happens_to_the_server() {
    let mut program = start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    enter(&ada, &program, "ada");
    ada.wait_for("return !document.querySelector('#empty').hidden");
    picture(&ada, "notifications-empty.png");

    // Bob is away.
    let (report, train, cake) = (
        ("normal", "The report is on your desk."),
        ("high", "The train leaves at six, not at seven."),
        ("low", "There is cake in the kitchen."),
    );
    for (priority, text) in [report, train, cake] {
        notify(&ada, "bob", priority, text, "Queued until bob returns");
    }
    enter(&bob, &program, "bob");
    wait_for_unread(&bob, &[cake, train, report]);
    bob.wait_for("return document.querySelector('.toast span')?.textContent.startsWith('The train')");
    bob.click(".toast");
    bob.wait_for("return document.querySelector('.toast') === null");

    // What he reads in one window is read in the other.
    let first = bob.window();
    let second = bob.open_window();
    bob.open(&program.url("/"));
    is_open(&bob);
    wait_for_unread(&bob, &[cake, train, report]);
    click_read(&bob, cake.1);
    wait_for_unread(&bob, &[train, report]);
    bob.switch_to(&first);
    wait_for_unread(&bob, &[train, report]);
    let coffee = ("normal", "Coffee at ten?");
    notify(&ada, "bob", coffee.0, coffee.1, "Delivered to 2 tabs");
    wait_for_unread(&bob, &[coffee, train, report]);

    // A restart, and the same without a word: what is unread waits, once.
    for end in [|program: &mut Program| _ = program.interrupt(), Program::kill] {
        end(&mut program);
        for tab in [&ada, &bob] {
            tab.wait_for("return document.querySelector('#state').dataset.state !== 'open'");
        }
        program.start_again();
        is_open(&ada);
        is_open(&bob);
        wait_for_unread(&bob, &[coffee, train, report]);
    }
    bob.open(&program.url("/"));
    wait_for_unread(&bob, &[coffee, train, report]);

    // Everyone: the sender, too, and users who are away.
    let closed = ("high", "The office is closed tomorrow. Have a good day off!");
    bob.switch_to(&second);
    is_open(&bob);
    let _cleo = program.ask("GET", "/notifications", Some(&program.login("cleo")), None);
    notify(&ada, "*", closed.0, closed.1, "Delivered to 3 tabs, queued for 1 offline user");
    wait_for_unread(&ada, &[closed]);
    wait_for_unread(&bob, &[closed, coffee, train, report]);
    bob.switch_to(&first);
    wait_for_unread(&bob, &[closed, coffee, train, report]);
    click_read(&bob, report.1);
    wait_for_unread(&bob, &[closed, coffee, train]);

    // Something worth seeing on the desk, too.
    for (from, priority, text) in [
        ("cleo", "low", "The print shop has called: the posters are ready."),
        ("bob", "high", "Can you call the customer back before ten? They have found the cause."),
        ("cleo", "normal", "Lunch at the usual place?\nI book a table for four."),
    ] {
        let body = json!({"to": "ada", "priority": priority, "text": text});
        assert_eq!(program.ask("POST", "/notify", Some(&program.login(from)), Some(&body)).status, 200);
    }
    ada.wait_for("return document.title === '(4) Notifications'");
    click_read(&ada, closed.1);
    notify(&ada, "dora", "normal", "Welcome! Your desk is next to the window.", "Queued until dora returns");
    picture(&ada, "notifications-desk.png");
    picture(&bob, "notifications-phone.png");
    let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
    for tab in [&ada, &bob] {
        tab.devtools("Emulation.setEmulatedMedia", &dark);
    }
    picture(&ada, "notifications-desk-dark.png");
    bob.click("nav [data-view=desk]");
    bob.wait_for("return document.querySelector('#audit').checkVisibility()");
    picture(&bob, "notifications-phone-dark.png");
    bob.click("nav [data-view=inbox]");

    bob.click("#read-all");
    wait_for_unread(&bob, &[]);
    bob.switch_to(&second);
    wait_for_unread(&bob, &[]);
    bob.open(&program.url("/"));
    is_open(&bob);
    bob.wait_for("return !document.querySelector('#empty').hidden");
    assert_eq!(program.ask("GET", "/notifications?unread", Some(&program.login("bob")), None).json()["unread"], 0);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn names_and_texts_are_text_and_run_nothing() {
    let program = start();
    let driver = Driver::start();
    let (ada, eve) = (driver.tab(1280, 800), driver.tab(1280, 800));
    let attack = "<img src=x onerror=\"window.hacked=1\">";
    // As long as a name may be.
    let name = "<img src=x onerror=hacked=1>";
    enter(&ada, &program, "ada");
    enter(&eve, &program, name);
    for to in ["ada", name] {
        notify(&eve, to, "high", attack, "Delivered to 1 tab");
    }
    notify(&eve, "*", "high", attack, "Delivered to 2 tabs");
    notify(&eve, name, "low", attack, "Delivered to 1 tab");
    notify(&eve, "<img src=x>", "low", attack, "Queued until <img src=x> returns");
    for tab in [&ada, &eve] {
        tab.wait_for("return document.querySelectorAll('#feed .entry').length === 5");
        tab.wait_for("return document.querySelectorAll('main img, #toasts img, main script').length === 0");
        tab.wait_for("return window.hacked === undefined");
    }
    wait_for_unread(&ada, &[("high", attack), ("high", attack)]);
    for selector in ["#me .name", ".item .from", ".toast strong", ".entry strong"] {
        let seen = eve.run(&format!("return [...document.querySelectorAll('{selector}')].map((e) => e.textContent)"));
        assert!(seen.as_array().is_some_and(|seen| seen.contains(&json!(name))), "{selector}: {seen}");
    }
    let chips = ada.run("return [...document.querySelectorAll('.chip')].map((e) => e.textContent)");
    assert_eq!(chips, json!(["Everyone", name]));
    // A refusal is shown, and the typed text stays.
    ada.fill("#to", "bob");
    ada.fill("#text", " ");
    ada.click("#compose .bar button");
    ada.wait_for("return document.querySelector('#answer.problem')?.textContent.includes('it is empty')");
    assert_eq!(ada.run("return document.querySelector('#to').value"), json!("bob"));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn what_had_no_room_leaves_the_page_and_what_was_read_elsewhere_does_not_stay() {
    let program = start();
    let driver = Driver::start();
    let bob = driver.tab(1280, 800);
    enter(&bob, &program, "bob");
    let ada = program.login("ada");
    let say = |priority: &str, text: &str| {
        let body = json!({"to": "bob", "priority": priority, "text": text});
        let answer = program.ask("POST", "/notify", Some(&ada), Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    say("low", "goes first");
    let texts =
        |text: &str| format!("[...document.querySelectorAll('.item .text')].some((e) => e.textContent === '{text}')");
    bob.wait_for(&format!("return {}", texts("goes first")));
    for n in 0..100 {
        say("high", &format!("high {n}"));
    }
    bob.wait_for("return document.title === '(100) Notifications'");
    bob.wait_for(&format!("return !{}", texts("goes first")));
    bob.wait_for("return document.querySelector('.entry.dropped')?.textContent.includes('The queue was full')");

    // Read on another device while this one has no connection.
    let network = |offline: bool| {
        let conditions = json!({"offline": offline, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1});
        bob.devtools("Network.emulateNetworkConditions", &conditions);
    };
    bob.devtools("Network.enable", &json!({}));
    network(true);
    bob.wait_for("return document.querySelector('#state').dataset.state !== 'open'");
    let phone = driver.tab(390, 844);
    enter(&phone, &program, "bob");
    phone.wait_for("return document.title === '(100) Notifications'");
    click_read(&phone, "high 50");
    phone.wait_for("return document.title === '(99) Notifications'");
    network(false);
    is_open(&bob);
    bob.wait_for("return document.title === '(99) Notifications'");
    bob.wait_for("return document.querySelector('.item.read .text')?.textContent === 'high 50'");
}
