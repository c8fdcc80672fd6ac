//! The page, used by two people in real browsers.

#![allow(missing_docs, reason = "tests")]

mod support;
#[path = "../../../tests/common/browser.rs"]
mod webdriver;

use std::path::PathBuf;

use serde_json::json;
use support::Chat;
use webdriver::{Driver, Tab};

/// Goes in at the door, as a person does.
fn enter(tab: &Tab<'_>, chat: &Chat, name: &str) {
    tab.open(&format!("http://{}/", chat.address));
    tab.fill("#name", name);
    tab.click("#door button");
    tab.wait_for("return document.querySelector('#state').dataset.state === 'online'");
}

fn say(tab: &Tab<'_>, text: &str) {
    tab.fill("#text", text);
    tab.click("#send");
}

/// Waits until the page shows these messages, in this order.
fn wait_for_messages(tab: &Tab<'_>, texts: &[&str]) {
    let texts = json!(texts);
    tab.wait_for(&format!(
        "return JSON.stringify([...document.querySelectorAll('.said .text')].map(e => e.textContent)) === JSON.stringify({texts})"
    ));
}

fn wait_for_users(tab: &Tab<'_>, users: usize) {
    tab.wait_for(&format!("return document.querySelectorAll('#users li').length === {users}"));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn two_people_chat_through_the_page() {
    let chat = Chat::start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    enter(&ada, &chat, "Ada");
    enter(&bob, &chat, "Bob");
    wait_for_users(&ada, 2);
    wait_for_users(&bob, 2);

    let talk = ["Good morning! Is the release out?", "Since ten. Everything is green.", "Then lunch is on me."];
    say(&ada, talk[0]);
    wait_for_messages(&bob, &talk[..1]);
    say(&bob, talk[1]);
    wait_for_messages(&ada, &talk[..2]);
    say(&ada, talk[2]);
    wait_for_messages(&ada, &talk);
    wait_for_messages(&bob, &talk);

    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    ada.screenshot(&pictures.join("chat-desk.png"));
    bob.screenshot(&pictures.join("chat-phone.png"));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn names_and_messages_are_text_and_run_nothing() {
    let chat = Chat::start();
    let driver = Driver::start();
    let (ada, eve) = (driver.tab(1280, 800), driver.tab(1280, 800));
    let attack = "<img src=x onerror=\"window.hacked=1\">";
    enter(&ada, &chat, "Ada");
    enter(&eve, &chat, attack);
    wait_for_users(&ada, 2);
    say(&eve, attack);
    for tab in [&ada, &eve] {
        wait_for_messages(tab, &[attack]);
        tab.wait_for("return document.querySelectorAll('#chat img, #chat script').length === 0");
        tab.wait_for("return window.hacked === undefined");
        let names = tab.run("return [...document.querySelectorAll('#users li')].map(e => e.textContent).join()");
        assert!(names.as_str().is_some_and(|names| names.contains(attack)), "{names}");
    }
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn the_page_reconnects_by_itself_and_keeps_what_was_typed() {
    let chat = Chat::start();
    let port = chat.port();
    let driver = Driver::start();
    let ada = driver.tab(1280, 800);
    enter(&ada, &chat, "Ada");
    chat.kill();
    ada.wait_for("return document.querySelector('#state').dataset.state !== 'online'");
    ada.fill("#text", "typed while offline");
    let _chat = Chat::start_at(&port);
    ada.wait_for("return document.querySelector('#state').dataset.state === 'online'");
    ada.click("#send");
    wait_for_messages(&ada, &["typed while offline"]);
}
