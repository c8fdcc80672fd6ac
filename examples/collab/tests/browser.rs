//! The page, used by people in real browsers.

#![allow(missing_docs, reason = "tests")]

use std::path::PathBuf;

use serde_json::json;
use stage::{Driver, Program, Tab};

fn start() -> Program {
    Program::start("collab", env!("CARGO_BIN_EXE_collab"))
}

/// Signs in at the door, as a person does, and waits for the text.
fn enter(tab: &Tab<'_>, collab: &Program, name: &str, document: &str) {
    tab.open(&collab.url(&format!("/#{document}")));
    tab.fill("#name", name);
    tab.click("#door button");
    wait_for_state(tab, "saved");
}

fn wait_for_state(tab: &Tab<'_>, state: &str) {
    tab.wait_for(&format!("return document.querySelector('#state').dataset.state === '{state}'"));
}

/// Puts the caret behind this text, and types there.
fn write(tab: &Tab<'_>, behind: &str, text: &str) {
    let (behind, text) = (json!(behind), json!(text));
    tab.run(&format!(
        "const text = document.querySelector('#text'); text.focus(); \
         const at = {behind} ? text.value.indexOf({behind}) + {behind}.length : text.value.length; \
         text.setSelectionRange(at, at); document.execCommand('insertText', false, {text})"
    ));
}

fn text(tab: &Tab<'_>) -> String {
    tab.run("return document.querySelector('#text').value").as_str().expect("a text").to_owned()
}

/// Waits until the page shows this text, and the server has it.
fn wait_for_text(tab: &Tab<'_>, text: &str) {
    let text = json!(text);
    tab.wait_for(&format!("return document.querySelector('#text').value === {text}"));
    wait_for_state(tab, "saved");
}

/// Waits until all is saved on both sides, and both show the same: that text.
fn converged(ada: &Tab<'_>, bob: &Tab<'_>, is_there: impl Fn(&str) -> bool) -> String {
    for _ in 0..2000 {
        let (left, right) = (text(ada), text(bob));
        let saved = "return document.querySelector('#state').dataset.state === 'saved'";
        if left == right && is_there(&left) && [ada, bob].iter().all(|tab| tab.run(saved) == json!(true)) {
            return left;
        }
    }
    panic!("ada has {:?} and bob {:?}", text(ada), text(bob));
}

const LETTER: &str = "A week by the sea\n\nWe leave on Friday after work. The house is ours until Sunday a week later, \
                      and the key is with the neighbour.\n\nTo bring\n- towels\n- the big pan\n\nFood\n";

#[test]
#[ignore = "needs chromium and chromedriver"]
fn what_a_phone_composes_is_saved_before_the_word_is_done_and_what_comes_meanwhile_waits() {
    let collab = start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    enter(&ada, &collab, "ada", "phone");
    enter(&bob, &collab, "bob", "phone");
    bob.run("document.querySelector('#text').focus()");
    for word in ["he", "hello"] {
        let composed = json!({"text": word, "selectionStart": word.len(), "selectionEnd": word.len()});
        bob.devtools("Input.imeSetComposition", &composed);
        wait_for_text(&ada, word);
    }
    write(&ada, "", " ada");
    wait_for_state(&ada, "saved");
    assert_eq!(text(&bob), "hello", "nothing disturbs the word");
    bob.devtools("Input.insertText", &json!({"text": "hello"}));
    assert_eq!(converged(&ada, &bob, |text| text.contains("ada")), "hello ada");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn two_people_write_in_one_place_and_see_each_other() {
    let collab = start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    enter(&ada, &collab, "ada", "seaside");
    write(&ada, "", LETTER);
    enter(&bob, &collab, "bob", "seaside");
    wait_for_text(&bob, LETTER);
    ada.wait_for("return document.querySelectorAll('#users li').length === 2");

    // A letter at a time, both in one place: each one's words stay whole.
    write(&ada, "", "- ");
    wait_for_text(&bob, &format!("{LETTER}- "));
    for tab in [&ada, &bob] {
        tab.run("const text = document.querySelector('#text'); text.focus(); text.setSelectionRange(1e6, 1e6)");
    }
    for (a, b) in "noodles, ".chars().zip("lentils, ".chars()) {
        for (tab, letter) in [(&ada, a), (&bob, b)] {
            tab.run(&format!("document.execCommand('insertText', false, {})", json!(letter.to_string())));
        }
    }
    let both = converged(&ada, &bob, |text| text.len() == LETTER.len() + 20);
    let ends = ["- noodles, lentils, ", "- lentils, noodles, "];
    assert!(ends.iter().any(|end| both.ends_with(end)), "{both}");

    // Undo takes back one's own.
    write(&bob, "the big pan", "\n- a kite");
    converged(&ada, &bob, |text| text.contains("kite"));
    write(&ada, "towels", ", six");
    converged(&ada, &bob, |text| text.contains("six"));
    bob.run(
        "document.querySelector('#text').dispatchEvent(new KeyboardEvent('keydown', { key: 'z', ctrlKey: true, cancelable: true }))",
    );
    converged(&ada, &bob, |text| text.contains("six") && !text.contains("kite"));

    // A caret, and a selection, with the name of whose they are.
    write(&bob, "the big pan", "\n- candles");
    converged(&ada, &bob, |text| text.contains("candles"));
    ada.wait_for("return document.querySelector('.caret.fresh b')?.textContent === 'bob'");
    let select = "const text = document.querySelector('#text'); text.focus(); const at = text.value.indexOf('Friday'); \
                  text.setSelectionRange(at, at + 17)";
    ada.run(select);
    bob.wait_for("return document.querySelector('#mirror .selected')?.textContent === 'Friday after work'");
    bob.run("const text = document.querySelector('#text'); text.setSelectionRange(9, 9)");
    ada.wait_for("return document.querySelector('.caret.fresh')?.nextSibling?.textContent.startsWith(' the sea')");
    // A picture with three people in it.
    let dan = driver.tab(1280, 800);
    enter(&dan, &collab, "dan", "seaside");
    write(&dan, "candles", " and matches");
    let before = converged(&ada, &bob, |text| text.contains("matches"));
    bob.run(
        "const text = document.querySelector('#text'); const at = text.value.indexOf('the key'); \
         text.setSelectionRange(at, at + 29)",
    );
    ada.wait_for("return document.querySelector('#mirror .selected')?.textContent === 'the key is with the neighbour'");
    ada.wait_for("return document.querySelectorAll('#users li').length === 3");
    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    ada.screenshot(&pictures.join("collab-desk.png"));
    bob.screenshot(&pictures.join("collab-phone.png"));
    ada.devtools(
        "Emulation.setEmulatedMedia",
        &json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]}),
    );
    ada.screenshot(&pictures.join("collab-dark.png"));
    // A caret keeps its place in what others change before it.
    write(&bob, "A week", " or two");
    wait_for_text(&ada, &before.replacen("A week", "A week or two", 1));
    let selected = "const text = document.querySelector('#text'); \
                    return text.value.slice(text.selectionStart, text.selectionEnd) === 'Friday after work'";
    ada.wait_for(selected);
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn what_is_written_offline_is_merged_and_what_was_saved_is_there() {
    let mut collab = start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    enter(&ada, &collab, "ada", "notes");
    enter(&bob, &collab, "bob", "notes");
    write(&ada, "", "first\nmiddle\nlast\n");
    wait_for_text(&bob, "first\nmiddle\nlast\n");
    collab.kill();
    wait_for_state(&ada, "waiting");
    wait_for_state(&bob, "waiting");
    write(&ada, "first", " by ada");
    write(&ada, "last", " by ada");
    write(&bob, "middle", " by bob");
    write(&bob, "last", " and bob");
    ada.wait_for("return document.querySelector('#notice').textContent.includes('kept in this page')");
    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    bob.screenshot(&pictures.join("collab-offline.png"));
    collab.start_again();
    let both = converged(&ada, &bob, |text| text.contains("ada\nmiddle") && text.contains("by bob"));
    let lines: Vec<&str> = both.lines().collect();
    assert_eq!(lines[..2], ["first by ada", "middle by bob"], "{both}");
    assert!(["last by ada and bob", "last and bob by ada"].contains(&lines[2]), "{both}");
    ada.wait_for("return document.querySelector('#notice').hidden");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn the_past_is_stepped_through_and_restored() {
    let collab = start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    enter(&ada, &collab, "ada", "notes");
    enter(&bob, &collab, "bob", "notes");
    write(&ada, "", "one\n");
    wait_for_text(&bob, "one\n");
    write(&bob, "", "two\n");
    wait_for_text(&ada, "one\ntwo\n");
    write(&ada, "", "three\n");
    wait_for_text(&bob, "one\ntwo\nthree\n");
    bob.run(
        "const text = document.querySelector('#text'); text.focus(); text.select(); document.execCommand('delete')",
    );
    wait_for_text(&ada, "");

    ada.click("#past");
    let shows = |version: u32, text: &str, new: &str| {
        let (text, new) = (json!(text), json!(new));
        ada.wait_for(&format!(
            "const then = document.querySelector('#then'); if (then.dataset.version !== '{version}') return false; \
             const copy = then.cloneNode(true); copy.querySelectorAll('del').forEach(e => e.remove()); \
             return copy.textContent === {text} && (then.querySelector('ins')?.textContent ?? '') === {new}"
        ));
    };
    shows(4, "", "");
    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let whose = "return [...document.querySelectorAll('#entries .what span')].map(e => e.textContent).join()";
    assert_eq!(ada.run(whose), "bob,ada,bob,ada");
    ada.click("#back");
    shows(3, "one\ntwo\nthree\n", "three\n");
    ada.screenshot(&pictures.join("collab-history.png"));
    ada.click("#back");
    shows(2, "one\ntwo\n", "two\n");
    ada.click("#on");
    shows(3, "one\ntwo\nthree\n", "three\n");
    ada.click("#entries li:nth-child(4) button");
    shows(1, "one\n", "one\n");
    ada.click("#entries li:nth-child(2) button");
    shows(3, "one\ntwo\nthree\n", "three\n");
    // Others write on meanwhile, and what is looked at stays.
    write(&bob, "", "four\n");
    ada.wait_for("return document.querySelector('#version').max === '5'");
    shows(3, "one\ntwo\nthree\n", "three\n");
    bob.click("#past");
    bob.wait_for("return document.querySelectorAll('#entries li').length === 4");
    bob.screenshot(&pictures.join("collab-history-phone.png"));
    bob.click("#past");
    ada.click("#restore");
    wait_for_text(&ada, "one\ntwo\nthree\n");
    wait_for_text(&bob, "one\ntwo\nthree\n");
    bob.run("location.reload()");
    wait_for_text(&bob, "one\ntwo\nthree\n");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn names_and_texts_are_text_and_run_nothing() {
    let collab = start();
    let driver = Driver::start();
    let (ada, eve) = (driver.tab(1280, 800), driver.tab(390, 844));
    let attack = "<img src=x onerror=window.hacked=1>";
    let long = "<img src=x onerror=\"window.hacked=1\">";
    enter(&ada, &collab, "ada", "notes");
    // A name of a person has up to 32 characters, that of a document 64.
    enter(&eve, &collab, &attack[..32], "notes");
    write(&eve, "", long);
    wait_for_text(&ada, long);
    ada.wait_for("return document.querySelector('.caret b')?.textContent.startsWith('<img') === true");
    for tab in [&ada, &eve] {
        tab.click("#past");
        tab.wait_for("return document.querySelector('#then ins')?.textContent.startsWith('<img') === true");
        tab.wait_for("return document.querySelector('#entries .what span').textContent.startsWith('<img')");
    }
    eve.run(&format!("location.hash = encodeURIComponent({})", json!(long)));
    eve.wait_for(&format!("return document.querySelector('#document').value === {}", json!(long)));
    wait_for_text(&eve, "");
    for tab in [&ada, &eve] {
        tab.wait_for(
            "return document.querySelectorAll('img, #app script').length === 0 && window.hacked === undefined",
        );
    }
}
