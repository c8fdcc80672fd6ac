//! The page, used by people in real browsers.

#![allow(missing_docs, reason = "tests")]

use std::path::PathBuf;

use serde_json::json;
use stage::{Driver, Program, Tab};

fn start() -> Program {
    Program::start("chat", env!("CARGO_BIN_EXE_chat"))
}

/// Goes in at the door, as a person does.
fn enter(tab: &Tab<'_>, chat: &Program, name: &str) {
    tab.open(&chat.url("/"));
    tab.fill("#name", name);
    tab.click("#door button");
    wait_for_state(tab, "open");
}

fn wait_for_state(tab: &Tab<'_>, state: &str) {
    tab.wait_for(&format!("return document.querySelector('#state').dataset.state === '{state}'"));
}

fn say(tab: &Tab<'_>, text: &str) {
    tab.fill("#text", text);
    tab.click("#send");
}

/// Waits until the page shows these messages, in this order, and none that is still on its way.
fn wait_for_messages(tab: &Tab<'_>, texts: &[&str]) {
    let texts = json!(texts);
    tab.wait_for(&format!(
        "return document.querySelectorAll('.pending').length === 0 && \
         JSON.stringify([...document.querySelectorAll('.said .text')].map(e => e.textContent)) === JSON.stringify({texts})"
    ));
}

fn wait_for_users(tab: &Tab<'_>, users: usize) {
    tab.wait_for(&format!("return document.querySelectorAll('#users li').length === {users}"));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn two_people_chat_and_a_newcomer_sees_what_was_said() {
    let chat = start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    enter(&ada, &chat, "Ada");
    let talk =
        ["Good morning! Is the release out?", "Since ten. Everything is green.", "Then lunch is on me.", "Noodles?"];
    say(&ada, talk[0]);
    wait_for_messages(&ada, &talk[..1]);
    enter(&bob, &chat, "Bob");
    wait_for_messages(&bob, &talk[..1]);
    wait_for_users(&ada, 2);
    wait_for_users(&bob, 2);
    say(&bob, talk[1]);
    wait_for_messages(&ada, &talk[..2]);
    say(&ada, talk[2]);
    say(&bob, talk[3]);
    wait_for_messages(&bob, &talk);

    // A typing user is shown, until the message arrives.
    bob.fill("#text", "The place ");
    ada.wait_for("return document.querySelector('#typing').textContent === 'Bob is typing'");
    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    ada.screenshot(&pictures.join("chat-desk.png"));
    bob.screenshot(&pictures.join("chat-phone.png"));
    bob.click("#send");
    ada.wait_for("return document.querySelector('#typing').textContent === ''");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn tabs_are_one_person_and_one_name_may_be_two() {
    let chat = start();
    let driver = Driver::start();
    let (ada, other) = (driver.tab(1280, 800), driver.tab(1280, 800));
    enter(&ada, &chat, "Ada");
    let first = ada.window();
    ada.open_window();
    enter(&ada, &chat, "Ada");
    enter(&other, &chat, "Ada");
    wait_for_users(&other, 2);
    wait_for_users(&ada, 2);
    let ids = "return new Set([...document.querySelectorAll('#users small')].map(e => e.textContent)).size === 2";
    other.wait_for(ids);
    // A user's own messages are marked as own in each tab, and only there.
    say(&ada, "from my second tab");
    ada.switch_to(&first);
    ada.wait_for("return document.querySelectorAll('.said.mine').length === 1");
    wait_for_messages(&other, &["from my second tab"]);
    other.wait_for("return document.querySelectorAll('.said.mine').length === 0");
    // And after a reload.
    enter(&ada, &chat, "Ada");
    wait_for_messages(&ada, &["from my second tab"]);
    ada.wait_for("return document.querySelectorAll('.said.mine').length === 1");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn names_and_messages_are_text_and_run_nothing() {
    let chat = start();
    let driver = Driver::start();
    let (ada, eve) = (driver.tab(1280, 800), driver.tab(1280, 800));
    let attack = "<img src=x onerror=\"window.hacked=1\">";
    enter(&ada, &chat, "Ada");
    enter(&eve, &chat, attack);
    wait_for_users(&ada, 2);
    eve.fill("#text", attack);
    ada.wait_for("return document.querySelector('#typing').textContent.startsWith('<img')");
    eve.click("#send");
    for tab in [&ada, &eve] {
        wait_for_messages(tab, &[attack]);
        tab.wait_for("return document.querySelectorAll('#app img, #app script').length === 0");
        assert_eq!(tab.run("return window.hacked ?? 'unharmed'"), "unharmed");
        let names = tab.run("return [...document.querySelectorAll('#users li')].map(e => e.textContent).join()");
        assert!(names.as_str().is_some_and(|names| names.contains(attack)), "{names}");
    }
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_page_comes_back_says_what_was_typed_meanwhile_and_tells_that_the_rest_is_gone() {
    let mut chat = start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    enter(&ada, &chat, "Ada");
    enter(&bob, &chat, "Bob");
    say(&ada, "before");
    wait_for_messages(&bob, &["before"]);
    chat.kill();
    wait_for_state(&ada, "waiting");
    say(&ada, "said while offline");
    ada.wait_for("return document.querySelectorAll('.pending').length === 1");
    chat.start_again();
    wait_for_messages(&bob, &["before", "said while offline"]);
    wait_for_messages(&ada, &["before", "said while offline"]);
    for tab in [&ada, &bob] {
        tab.wait_for("return document.querySelector('.note')?.textContent.includes('has restarted') === true");
        wait_for_users(tab, 2);
    }
}
