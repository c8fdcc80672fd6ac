//! The page, used by two people in real browsers: ada at a desk, bob with a phone.

#![allow(missing_docs, reason = "tests")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stage::{Driver, Program, Tab};

const OUTBID: &str = "return [...document.querySelectorAll('.notice')].some(e => e.dataset.news === 'outbid')";

fn start() -> Program {
    Program::start("auction", env!("CARGO_BIN_EXE_auction"))
}

/// Goes in at the door, as a person does, and waits until the page knows the time.
fn enter(tab: &Tab<'_>, auction: &Program, name: &str) {
    tab.open(&auction.url("/"));
    tab.fill("#name", name);
    tab.click("#door button");
    wait_until_ready(tab);
}

fn wait_until_ready(tab: &Tab<'_>) {
    tab.wait_for(
        "return document.querySelector('#state').dataset.state === 'open' && document.body.dataset.clock === 'set'",
    );
}

/// Opens a lot from another place, and returns its number.
fn sell(auction: &Program, title: &str, seconds: u64, soft_close: u64) -> u64 {
    let lot = json!({"title": title, "opening": 1250, "closes_in": seconds, "soft_close": soft_close});
    let answer = auction.ask("POST", "/lots", Some(&auction.login("sue")), Some(&lot));
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()["lot"].as_u64().expect("a lot has a number")
}

/// Waits for a lot whose title begins with this, and returns its number.
fn lot_named(tab: &Tab<'_>, title: &str) -> u64 {
    let card = format!(
        "[...document.querySelectorAll('.lot')].find(card => card.querySelector('h2').textContent.startsWith({}))",
        json!(title)
    );
    tab.wait_for(&format!("return {card} !== undefined"));
    let number = tab.run(&format!("return Number({card}.id.replace('lot-', ''))"));
    number.as_u64().expect("a card has the number of its lot")
}

/// Types an amount, or takes the one that is there, and bids.
fn bid(tab: &Tab<'_>, lot: u64, amount: Option<&str>) {
    tab.wait_for(&format!("return document.querySelector('#lot-{lot} form button')?.disabled === false"));
    if let Some(amount) = amount {
        tab.fill(&format!("#lot-{lot} form input"), amount);
    }
    tab.click(&format!("#lot-{lot} form button"));
}

/// Waits until the lot shows this price, leader, and role of the tab's user.
fn wait_for_price(tab: &Tab<'_>, lot: u64, price: &str, leader: &str, you: &str) {
    tab.wait_for(&format!(
        "const card = document.querySelector('#lot-{lot}'); const text = what => card.querySelector(what).textContent;
         return text('.price b') === '{price}' && text('.price .who').endsWith('{leader}') && card.dataset.you === '{you}'"
    ));
}

fn wait_for_status(tab: &Tab<'_>, lot: u64, status: &str) {
    tab.wait_for(&format!("return document.querySelector('#lot-{lot}').dataset.status === '{status}'"));
}

/// When the lot closes, as this screen has it.
fn closes(tab: &Tab<'_>, lot: u64) -> u64 {
    let closes = tab.run(&format!("return Number(document.querySelector('#lot-{lot}').dataset.closes)"));
    closes.as_u64().expect("it is a time")
}

fn history(tab: &Tab<'_>, lot: u64) -> Value {
    tab.run(&format!("return [...document.querySelectorAll('#lot-{lot} li')].map(e => e.textContent)"))
}

fn picture(tab: &Tab<'_>, name: &str) {
    tab.screenshot(&PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("auction-{name}.png")));
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn two_users_bid_and_each_outbid_user_gets_a_notice_online_or_away_and_across_a_crash() {
    let mut auction = start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    enter(&ada, &auction, "ada");
    enter(&bob, &auction, "bob");

    // Ada opens a lot by the form.
    ada.click("#sell");
    ada.fill("#title", "Grandmother's music box");
    ada.fill("#opening", "twelve");
    ada.click("#open .end button:last-child");
    ada.wait_for("return document.querySelector('#open .problem').textContent.includes('12.50')");
    ada.fill("#opening", "12.50");
    picture(&ada, "sell");
    ada.click("#open .end button:last-child");
    let lot = lot_named(&ada, "Grandmother");
    assert_eq!(lot_named(&bob, "Grandmother"), lot);
    ada.wait_for(&format!(
        "return document.querySelector('#lot-{lot} form').hidden && !document.querySelector('#offer').open"
    ));
    bid(&bob, lot, None);
    wait_for_price(&ada, lot, "12.50", "bob", "seller");

    // A typed amount stays when others bid, even just before the click.
    let telescope = lot_named(&ada, "A brass telescope");
    ada.fill(&format!("#lot-{telescope} form input"), "200.00");
    ada.run("document.querySelector('#sell').focus()");
    bid(&bob, telescope, None);
    wait_for_price(&ada, telescope, "40.00", "bob", "none");
    assert_eq!(ada.run(&format!("return document.querySelector('#lot-{telescope} form input').value")), "200.00");

    // Both bid for what another one sells.
    let lot = sell(&auction, "A small globe, slightly dented", 300, 10);
    for tab in [&ada, &bob] {
        tab.wait_for(&format!("return document.querySelector('#lot-{lot}') !== null"));
    }
    bid(&ada, lot, None);
    wait_for_price(&ada, lot, "12.50", "ada", "leads");
    wait_for_price(&bob, lot, "12.50", "ada", "none");
    bid(&bob, lot, None);
    wait_for_price(&bob, lot, "13.50", "bob", "leads");
    wait_for_price(&ada, lot, "13.50", "bob", "outbid");
    ada.wait_for(OUTBID);
    let before = closes(&ada, lot);

    // A refused bid has a reason, and what would do stands in its place.
    bid(&ada, lot, Some("14.49"));
    ada.wait_for(&format!(
        "const card = document.querySelector('#lot-{lot}');
         return card.querySelector('.problem').textContent === 'Refused: bid 14.50 or more' && card.dataset.seq === '2'
           && card.querySelector('input').value === '14.50'"
    ));
    for bad in ["a lot", "1e3", "-5", "12.345", "0", "1000000.01"] {
        bid(&ada, lot, Some(bad));
        ada.wait_for(&format!(
            "return document.querySelector('#lot-{lot} .problem').textContent.startsWith('An amount')"
        ));
    }

    // Bob is away when ada bids more; her own notice has done its work.
    bob.open("about:blank");
    bid(&ada, lot, Some("20"));
    wait_for_price(&ada, lot, "20.00", "ada", "leads");
    ada.wait_for("return document.querySelectorAll('.notice').length === 0");
    bob.open(&auction.url("/"));
    wait_until_ready(&bob);
    wait_for_price(&bob, lot, "20.00", "ada", "outbid");
    bob.wait_for(OUTBID);

    // The server is killed and comes back: lots, bids and closing times are what they were.
    let (kept, both) = (history(&ada, lot), [&ada, &bob]);
    auction.kill();
    for tab in both {
        tab.wait_for("return document.querySelector('#state').dataset.state !== 'open'");
    }
    // A bid that is made meanwhile waits for the server.
    bid(&bob, lot, None);
    auction.start_again();
    both.into_iter().for_each(wait_until_ready);
    wait_for_price(&ada, lot, "21.00", "bob", "outbid");
    wait_for_price(&bob, lot, "21.00", "bob", "leads");
    assert_eq!(history(&ada, lot).as_array().map(|lines| &lines[1..]), kept.as_array().map(Vec::as_slice));
    assert_eq!([closes(&ada, lot), closes(&bob, lot)], [before; 2]);

    // Something to look at: a lot in its last seconds, one that is closed, notices.
    ada.wait_for(OUTBID);
    let soon = sell(&auction, "Two tickets to the opera", 6, 5);
    for tab in both {
        tab.wait_for(&format!("return document.querySelector('#lot-{soon}') !== null"));
    }
    bid(&ada, soon, None);
    wait_for_price(&bob, soon, "12.50", "ada", "none");
    wait_for_status(&ada, soon, "closed");
    let last = sell(&auction, "A ship in a bottle", 9, 9);
    for tab in both {
        tab.wait_for(&format!("return document.querySelector('#lot-{last}') !== null"));
    }
    bid(&bob, last, None);
    wait_for_price(&ada, last, "12.50", "bob", "none");
    bid(&ada, last, Some("15,5"));
    wait_for_price(&ada, last, "15.50", "ada", "leads");
    wait_for_price(&bob, last, "15.50", "ada", "outbid");
    bob.wait_for(OUTBID);
    picture(&ada, "desk");
    picture(&bob, "phone");
    for (tab, name) in [(&ada, "desk-dark"), (&bob, "phone-dark")] {
        let dark = json!({"features": [{"name": "prefers-color-scheme", "value": "dark"}]});
        tab.devtools("Emulation.setEmulatedMedia", &dark);
        picture(tab, name);
    }

    // A notice that was put away does not come back.
    while bob.run("return document.querySelectorAll('.notice').length") != json!(0) {
        bob.click(".notice button");
    }
    bob.open(&auction.url("/"));
    wait_until_ready(&bob);
    // `unread` comes first, then the waiting notices; the clock is set after both were sent.
    bob.wait_for("return document.querySelectorAll('.notice').length === 0");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_bid_in_the_last_seconds_moves_the_end_on_both_screens_and_a_refused_one_does_not() {
    let auction = start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    enter(&ada, &auction, "ada");
    enter(&bob, &auction, "bob");
    let lot = sell(&auction, "A ship in a bottle", 12, 6);
    let both = [&ada, &bob];
    for tab in both {
        tab.wait_for(&format!("return document.querySelector('#lot-{lot}') !== null"));
    }
    let at_first = closes(&ada, lot);
    bid(&ada, lot, None);
    wait_for_price(&bob, lot, "12.50", "ada", "none");
    assert_eq!(both.map(|tab| closes(tab, lot)), [at_first; 2], "that was early");

    for tab in both {
        wait_for_status(tab, lot, "closing");
    }
    bid(&bob, lot, Some("13.49"));
    bob.wait_for(&format!(
        "return document.querySelector('#lot-{lot} .problem').textContent.includes('13.50 or more')"
    ));
    assert_eq!(both.map(|tab| closes(tab, lot)), [at_first; 2], "a refused bid does not count");
    bid(&bob, lot, Some("13.50"));
    for tab in both {
        tab.wait_for(&format!("return Number(document.querySelector('#lot-{lot}').dataset.closes) > {at_first}"));
    }
    assert_eq!(closes(&ada, lot), closes(&bob, lot));

    for tab in both {
        wait_for_status(tab, lot, "closed");
    }
    wait_for_price(&ada, lot, "13.50", "bob", "lost");
    wait_for_price(&bob, lot, "13.50", "bob", "won");
    ada.wait_for("return document.querySelector('.notice')?.dataset.news === 'lost'");
    bob.wait_for("return document.querySelector('.notice')?.dataset.news === 'won'");
}

/// How long a lot has still to go by a screen: when it ends, by our clock, at the earliest and at the latest.
fn end_on(tab: &Tab<'_>, lot: u64, since: Instant) -> (f64, f64) {
    // The page answers the moment that it shows a new time, and how long it waited for that.
    let script = format!(
        "const card = document.querySelector('#lot-{lot}'), asked = performance.now();
         return new Promise(resolve => new MutationObserver((_, observer) => {{
           observer.disconnect();
           resolve([Number(card.dataset.left), performance.now() - asked]);
         }}).observe(card, {{ attributeFilter: ['data-left'] }}))"
    );
    let asked = since.elapsed();
    let answer = tab.run(&script);
    let heard = since.elapsed();
    let [left, waited] = [0, 1].map(|place| answer[place].as_f64().expect("it is a number"));
    (asked.as_secs_f64() * 1000.0 + waited + left, heard.as_secs_f64() * 1000.0 + left)
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn the_countdown_is_the_same_on_a_device_whose_clock_is_90_seconds_off() {
    let auction = start();
    let driver = Driver::start();
    let (ada, bob) = (driver.tab(1280, 800), driver.tab(390, 844));
    let wrong = "{ const Right = Date;
        globalThis.off = 90_000;
        globalThis.Date = class extends Right {
          constructor(...parts) { parts.length ? super(...parts) : super(Right.now() + off); }
          static now() { return Right.now() + off; }
        } }";
    bob.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": wrong }));
    enter(&ada, &auction, "ada");
    enter(&bob, &auction, "bob");
    let off = || {
        let [right, wrong] = [&ada, &bob].map(|tab| tab.run("return Date.now()").as_f64().expect("it is a time"));
        wrong - right
    };
    assert!(off() > 85_000.0, "bob's clock is {} ms off", off());
    println!("the screens are {:.1} ms apart at most", most_apart(&ada, &bob));
    // Bob sets his clock, while the page is open.
    bob.run("off = -90_000");
    assert!(off() < -85_000.0, "bob's clock is {} ms off", off());
    println!("the screens are {:.1} ms apart at most", most_apart(&ada, &bob));
}

/// How far two screens are apart at most, in milliseconds: no more than they may be.
fn most_apart(one: &Tab<'_>, other: &Tab<'_>) -> f64 {
    const APART: f64 = 100.0;
    let lot = lot_named(one, "A brass telescope");
    // They are asked one after the other, and each answer takes a while: what is known is a span for each.
    let since = Instant::now();
    let until = since + Duration::from_secs(15);
    let mut closest = f64::INFINITY;
    for round in 0.. {
        let ((early, late), (early_too, late_too)) = (end_on(one, lot, since), end_on(other, lot, since));
        let at_least = (early - late_too).max(early_too - late);
        assert!(at_least <= APART, "the screens are {at_least:.0} ms apart");
        closest = closest.min((late - early_too).max(late_too - early));
        if round >= 10 && closest <= APART {
            break;
        }
        assert!(Instant::now() < until, "no answers came fast enough to tell: {closest:.0} ms");
    }
    closest
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn names_and_titles_are_text_and_run_nothing() {
    let auction = start();
    let driver = Driver::start();
    let (ada, eve) = (driver.tab(1280, 800), driver.tab(390, 844));
    let (name, title) = ("<img src=x onerror=hacked=1>", "<img src=x onerror=\"window.hacked=1\">");
    enter(&ada, &auction, "ada");
    enter(&eve, &auction, name);
    eve.click("#sell");
    eve.fill("#title", title);
    eve.fill("#opening", "5");
    eve.click("#open .end button:last-child");
    let lot = lot_named(&ada, title);
    bid(&ada, lot, None);
    wait_for_price(&eve, lot, "5.00", "ada", "seller");
    // A bid by that name, and a notice with that title.
    let telescope = lot_named(&ada, "A brass telescope");
    bid(&ada, telescope, None);
    wait_for_price(&eve, telescope, "40.00", "ada", "none");
    bid(&eve, telescope, None);
    wait_for_price(&ada, telescope, "41.00", name, "outbid");
    let hostile = json!({"title": title, "opening": 500, "closes_in": 5, "soft_close": 1});
    let answer = auction.ask("POST", "/lots", Some(&auction.login("sue")), Some(&hostile));
    assert_eq!(answer.status, 201);
    let lot = answer.json()["lot"].as_u64().expect("a lot has a number");
    bid(&ada, lot, None);
    for tab in [&ada, &eve] {
        wait_for_status(tab, lot, "closed");
    }
    ada.wait_for(
        "return [...document.querySelectorAll('.notice')].some(e => e.textContent.startsWith('You won <img'))",
    );
    for tab in [&ada, &eve] {
        tab.wait_for(
            "return document.querySelectorAll('img, #app script').length === 0 && window.hacked === undefined",
        );
        let shown = tab.run("return document.body.innerText");
        assert!(shown.as_str().is_some_and(|text| text.contains(name) && text.contains(title)), "{shown}");
    }
}
