//! The listeners of `notification.created`, in the order of their priorities: log, push, audit.

use std::sync::Arc;
use std::time::SystemTime;

use fanfare::group::offline::{DropReason, Dropped, OFFLINE_DROPPED};
use fanfare::{EventError, Priority};
use futures_util::future::join_all;

use crate::messages::{Created, Data, FromServer, Outcome, To};
use crate::{App, CREATED, EVERYBODY};

pub(crate) fn register(app: &App) -> Result<(), EventError> {
    app.events.listen(CREATED)?.priority(Priority::HIGH).on(log);
    let pushing = app.clone();
    app.events.listen(CREATED)?.priority(Priority::NORMAL).on_async(move |created| push(pushing.clone(), created));
    let auditing = app.clone();
    app.events.listen(CREATED)?.priority(Priority::LOW).on(move |created| audit(&auditing, created));
    let dropping = app.clone();
    app.events.on(OFFLINE_DROPPED, move |dropped| tell_dropped(&dropping, dropped))?;
    Ok(())
}

/// Logs the sender and the recipient, but not the text.
fn log(created: &Created) {
    let Created { from, to, priority, text, .. } = created;
    let (to, priority, length) = (to.name(), priority.as_str(), text.chars().count());
    eprintln!("notifications: {from} to {to}, {priority}, {length} characters");
}

/// Puts the notification into the offline queue of each recipient. The queue sends it to the connected ones.
async fn push(app: App, created: Arc<Created>) -> Result<(), fanfare::Error> {
    let users = match &created.to {
        To::User(user) => vec![user.clone()],
        To::Everybody => app.people.all().await?,
    };
    let data = Data::of(&created);
    // All at once, so that they share a commit. A failed send does not stop the others.
    let sends = users.iter().map(|user| app.channels.user(user).urgency(created.priority).send(&data));
    let (mut outcome, mut problem) = (Outcome::default(), None);
    for (user, result) in users.iter().zip(join_all(sends).await) {
        match result {
            Ok(sent) => outcome.add(sent),
            Err(error) => {
                outcome.failed += 1;
                problem.get_or_insert_with(|| format!("{user}: {error}"));
            }
        }
    }
    let failed = outcome.failed;
    // For the listeners after this one, and for the route.
    _ = created.outcome.set(outcome);
    match problem {
        Some(problem) => Err(format!("{failed} of {} not notified: {problem}", users.len()).into()),
        None => Ok(()),
    }
}

/// Sends the outcome, without the text, to all connected clients. The group's history keeps it for later ones.
fn audit(app: &App, created: &Created) -> Result<(), fanfare::Error> {
    let Created { from, to, priority, outcome, .. } = created;
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
    let told = FromServer::Audit { from, to: to.name(), priority: *priority, time, outcome: outcome.get() };
    Ok(app.channels.group_send(EVERYBODY, &told).map(drop)?)
}

/// Sends to all connected clients that a notification was dropped unread: the queue was full, or it was too old.
fn tell_dropped(app: &App, dropped: &Dropped) -> Result<(), fanfare::Error> {
    let reason = match dropped.reason() {
        DropReason::Evicted => "evicted",
        _ => "expired",
    };
    let (user, notification_id) = (dropped.user(), dropped.id());
    eprintln!("notifications: {notification_id} of {user} is {reason}, unread");
    let told = FromServer::Dropped { user, notification_id, reason };
    Ok(app.channels.group_send(EVERYBODY, &told).map(drop)?)
}
