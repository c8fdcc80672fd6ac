//! Makes the frames of presence, as JSON.
//!
//! Always: no frame is longer than 64 KiB, including its header. `Roster` keeps diffs and pages within the [`Budget`],
//! and holds the rest back. A state is cut into pages here. Plain functions, no synchronisation.

use super::budget::{Budget, user_len};
use super::entry::{PresencePage, PresenceUser};
use super::roster::{Diff, Snapshot};
use crate::frame::Frame;

/// Makes the frames of a state, all with its version.
pub(super) fn state(group: &str, epoch: u64, state: &Snapshot) -> Vec<Frame> {
    let pages = pages(&state.users);
    let count = pages.len();
    let page = |(at, users): (usize, &&[PresenceUser])| {
        let mut text = head("presence", group, epoch, state.version, state.count);
        text.push_str(&format!(",\"page\":{},\"pages\":{count}", at + 1));
        push_users(&mut text, "users", users);
        text.push('}');
        Frame::text(text)
    };
    pages.iter().enumerate().map(page).collect()
}

/// Makes the frame of a diff.
pub(super) fn diff(group: &str, epoch: u64, diff: &Diff) -> Frame {
    let mut text = head("presence.diff", group, epoch, diff.version, diff.count);
    push_users(&mut text, "joined", &diff.joined);
    push_users(&mut text, "updated", &diff.updated);
    text.push_str(",\"left\":");
    push_list(&mut text, &diff.left, |text, id| push_string(text, id));
    text.push('}');
    Frame::text(text)
}

/// Makes the answer to a client that asked for a page.
pub(super) fn page(group: &str, page: &PresencePage) -> Frame {
    let mut text = String::from("{\"type\":\"presence.page\",\"group\":");
    push_string(&mut text, group);
    text.push_str(&format!(",\"count\":{}", page.count));
    push_users(&mut text, "users", &page.users);
    text.push_str(&format!(",\"more\":{}}}", page.more));
    Frame::text(text)
}

/// Cuts the users into pages that fit into a frame each; there is at least one page.
fn pages(users: &[PresenceUser]) -> Vec<&[PresenceUser]> {
    let mut pages = Vec::new();
    let mut rest = users;
    while !rest.is_empty() || pages.is_empty() {
        let mut room = Budget::new();
        let fitting = rest.iter().take_while(|user| room.take(user_len(user))).count();
        let (page, behind) = rest.split_at(fitting);
        pages.push(page);
        rest = behind;
    }
    pages
}

fn head(kind: &str, group: &str, epoch: u64, version: u64, count: usize) -> String {
    let mut text = format!("{{\"type\":\"{kind}\",\"group\":");
    push_string(&mut text, group);
    text.push_str(&format!(",\"epoch\":{epoch},\"version\":{version},\"count\":{count}"));
    text
}

fn push_users(text: &mut String, name: &str, users: &[PresenceUser]) {
    text.push_str(&format!(",\"{name}\":"));
    push_list(text, users, |text, user| {
        text.push_str("{\"user\":");
        push_string(text, &user.id);
        text.push_str(",\"info\":");
        text.push_str(&user.info);
        text.push_str(&format!(",\"connections\":{},\"since\":{}}}", user.connections, user.since));
    });
}

fn push_list<T>(text: &mut String, items: &[T], push: impl Fn(&mut String, &T)) {
    text.push('[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        push(text, item);
    }
    text.push(']');
}

fn push_string(text: &mut String, string: &str) {
    text.push_str(&serde_json::to_string(string).expect("a string is JSON"));
}

#[cfg(test)]
mod tests {
    use super::super::budget::{HEAD, MAX_FRAME};
    use super::*;
    use crate::channel::{MAX_USER_ID_LEN, UserId};
    use crate::group::MAX_NAME_LEN;

    fn user(id: &str, info: String) -> PresenceUser {
        let id = UserId::new(id).expect("the id is good");
        PresenceUser { id, info: info.into(), connections: usize::MAX, since: u64::MAX }
    }

    #[test]
    fn the_frames_are_those_of_the_protocol() {
        let ada = PresenceUser { connections: 2, since: 17, ..user("a\"da", "{\"x\":1}".into()) };
        let entry = r#"{"user":"a\"da","info":{"x":1},"connections":2,"since":17}"#;
        let snapshot = Snapshot { version: 7, count: 2, users: vec![ada.clone()] };
        let frames = state("room", 5, &snapshot);
        let expected = format!(
            r#"{{"type":"presence","group":"room","epoch":5,"version":7,"count":2,"page":1,"pages":1,"users":[{entry}]}}"#
        );
        assert_eq!(frames, [Frame::text(expected)]);

        let left = vec![UserId::new("b").expect("good"), UserId::new("c").expect("good")];
        let made = Diff { version: 8, count: 1, joined: vec![ada.clone(), ada.clone()], updated: Vec::new(), left };
        let expected = format!(
            r#"{{"type":"presence.diff","group":"r\\","epoch":5,"version":8,"count":1,"joined":[{entry},{entry}],"updated":[],"left":["b","c"]}}"#
        );
        assert_eq!(diff("r\\", 5, &made), Frame::text(expected));

        let asked = PresencePage { count: 3, users: vec![ada], more: true };
        let expected = format!(r#"{{"type":"presence.page","group":"room","count":3,"users":[{entry}],"more":true}}"#);
        assert_eq!(page("room", &asked), Frame::text(expected));
    }

    #[test]
    fn an_empty_state_is_one_page_and_no_page_is_longer_than_a_frame_may_be() {
        let nobody = Snapshot { version: u64::MAX, count: 0, users: Vec::new() };
        assert_eq!(state("room", 1, &nobody).len(), 1);

        // Every byte of the names and ids is escaped, and every number is the longest.
        let group = "\"".repeat(MAX_NAME_LEN);
        for info in [1, 10, 100, 1000, 4094] {
            let users: Vec<_> =
                (0..200).map(|_| user(&"\\".repeat(MAX_USER_ID_LEN), format!("\"{}\"", "x".repeat(info)))).collect();
            let frames = state(&group, u64::MAX, &Snapshot { version: u64::MAX, count: usize::MAX, users });
            assert!(frames.iter().all(|frame| frame.bytes().len() <= MAX_FRAME));
            let longest = frames.iter().map(|frame| frame.bytes().len()).max().expect("there is one");
            assert!(longest > MAX_FRAME - HEAD - 5000, "a frame is well filled: {longest}");
        }
    }
}
