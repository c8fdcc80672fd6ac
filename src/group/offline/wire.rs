//! The JSON messages that an offline queue sends to clients.

use super::record::Record;
use crate::frame::Frame;

pub(super) fn notification(record: &Record) -> Frame {
    let payload = record.payload.as_deref().unwrap_or(b"null");
    let head = format!(
        r#"{{"type":"notification","notification_id":{},"priority":"{}","time":{},"data":"#,
        record.id,
        record.urgency.as_str(),
        record.time
    );
    let mut text = Vec::with_capacity(head.len() + payload.len() + 1);
    text.extend_from_slice(head.as_bytes());
    text.extend_from_slice(payload);
    text.push(b'}');
    // The payload is UTF-8: this crate serialised it, or checked it when it decoded the record.
    Frame::text(String::from_utf8_lossy(&text))
}

pub(super) fn unread(unread: usize) -> Frame {
    Frame::text(format!(r#"{{"type":"unread","unread":{unread}}}"#))
}

pub(super) fn acked(id: u64, unread: usize) -> Frame {
    Frame::text(format!(r#"{{"type":"acked","notification_id":{id},"unread":{unread}}}"#))
}
