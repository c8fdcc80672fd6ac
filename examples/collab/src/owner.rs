//! One task owns each open document: requests wait in a bounded inbox, and no text is behind a lock. The owner takes
//! all waiting requests as one batch, merges them, commits once, and only then answers and sends to the group: an
//! answered edit is on disk. Its answers and its messages to the group go out in the order of the versions.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare::channel::{CloseCode, Sender};
use fanfare::group::ChannelBox;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::ToClient;
use crate::document::{Author, BYTES, Document, Edit, STATE, VERSIONS};
use crate::store::Store;

/// How many requests may wait for a document, and share one commit.
const BATCH: usize = 64;
/// How many documents may be open.
const OPEN: usize = 100;
/// How many pages may be open on one document.
const EDITORS: usize = 64;

/// A page's request to a document.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) from: Sender,
    pub(crate) author: Author,
    pub(crate) what: What,
    /// Dropped after the answer: a page has one request in the inbox at a time, so that no page fills it alone.
    pub(crate) turn: oneshot::Sender<()>,
}

#[derive(Debug)]
pub(crate) enum What {
    /// The current text.
    Initial,
    Edit(Edit),
    Restore(u64),
}

/// The open documents, by name.
#[derive(Debug)]
pub(crate) struct Documents {
    store: Arc<Store>,
    channels: ChannelBox,
    open: Mutex<HashMap<String, Owner>>,
}

#[derive(Debug)]
struct Owner {
    inbox: mpsc::WeakSender<Ask>,
    task: JoinHandle<()>,
}

impl Documents {
    pub(crate) fn new(store: Store, channels: &ChannelBox) -> Self {
        Self { store: Arc::new(store), channels: channels.clone(), open: Mutex::default() }
    }

    /// Reads from the file, on a thread that may block.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Store) -> Result<T, fanfare::Error> + Send + 'static,
    ) -> Result<T, fanfare::Error> {
        let store = self.store.clone();
        spawn_blocking(move || question(&store)).await?
    }

    /// Returns the inbox of a document; `None` if too many are open. The owner task runs while any page holds an inbox.
    pub(crate) fn open(&self, name: &str) -> Option<mpsc::Sender<Ask>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(inbox) = open.get(name).and_then(|owner| owner.inbox.upgrade()).filter(|inbox| !inbox.is_closed()) {
            return Some(inbox);
        }
        open.retain(|_, owner| !owner.task.is_finished());
        if open.len() >= OPEN && !open.contains_key(name) {
            return None;
        }
        let before = open.remove(name).map(|owner| owner.task);
        let (inbox, asked) = mpsc::channel(BATCH);
        let desk = Desk {
            name: name.to_owned(),
            store: self.store.clone(),
            channels: self.channels.clone(),
            document: None,
            here: HashMap::new(),
        };
        let task = tokio::spawn(async move {
            // The previous owner may still be writing.
            if let Some(before) = before {
                drop(before.await);
            }
            desk.own(asked).await;
        });
        open.insert(name.to_owned(), Owner { inbox: inbox.downgrade(), task });
        Some(inbox)
    }
}

/// The state of an owner.
struct Desk {
    name: String,
    store: Arc<Store>,
    channels: ChannelBox,
    /// Loaded by the first request.
    document: Option<Document>,
    here: HashMap<Author, Sender>,
}

impl Desk {
    /// Answers until all pages have left, or the file fails. Pages that reconnect then get a new owner.
    async fn own(mut self, mut asked: mpsc::Receiver<Ask>) {
        let mut batch = Vec::new();
        while asked.recv_many(&mut batch, BATCH).await > 0 {
            let asks = mem::take(&mut batch);
            let from: Vec<_> = asks.iter().map(|ask| ask.from.clone()).collect();
            // Merging takes time, and a commit waits for the disk.
            let answered = spawn_blocking(move || self.answer(asks).map(|()| self)).await;
            let problem: fanfare::Error = match answered {
                Ok(Ok(desk)) => {
                    self = desk;
                    continue;
                }
                Ok(Err(error)) => error,
                Err(panic) => panic.into(),
            };
            eprintln!("collab: {problem}");
            for page in from {
                page.close(CloseCode::INTERNAL_ERROR, "the document cannot be saved");
            }
            break;
        }
    }

    fn answer(&mut self, asks: Vec<Ask>) -> Result<(), fanfare::Error> {
        let Some(mut document) = self.document.take().map_or_else(|| self.store.load(&self.name), |it| Ok(Some(it)))?
        else {
            for ask in asks {
                ask.from.close(CloseCode::POLICY, "there are too many documents: edit an existing one");
            }
            return Ok(());
        };
        let since = document.latest();
        let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
        // Each answer with its recipient, and the message to all others.
        let mut told: Vec<(Sender, ToClient, Option<ToClient>)> = Vec::new();
        let mut turns = Vec::new();
        for Ask { from, author, what, turn } in asks {
            turns.push(turn);
            let (edit, outcome) = match what {
                What::Initial if !self.enter(&mut document, &from, &author) => continue,
                What::Initial => (0, Ok(None)),
                What::Edit(asked) => (asked.edit, document.edit(&author, &asked, time)),
                What::Restore(version) => (0, document.restore(&author, version, time)),
            };
            let version = document.latest();
            if let Ok(Some(changes)) = outcome {
                let Author { user, session } = author;
                let news = ToClient::Edit { user, session, changes: changes.clone(), version, timestamp: time };
                let answer = if edit > 0 { ToClient::Applied { edit, version, changes } } else { news.clone() };
                told.push((from, answer, Some(news)));
                continue;
            }
            if let Err(error) = outcome {
                told.push((from.clone(), ToClient::Refused { edit, error }, None));
            }
            let edit = document.last_edit(&author);
            told.push((from, ToClient::Initial { content: document.text(), version, edit }, None));
        }
        if document.fold(VERSIONS, BYTES, STATE) || document.latest() > since {
            self.store.save(&self.name, &document, since)?;
        }
        for (page, answer, news) in told {
            // A page that is gone misses this, and asks for the text when it reconnects.
            drop(page.send(&answer));
            if let Some(news) = news {
                self.channels.group(&self.name).except(page.id()).send(&news)?;
            }
        }
        self.document = Some(document);
        Ok(())
    }

    /// Adds a page, if there is room.
    fn enter(&mut self, document: &mut Document, from: &Sender, author: &Author) -> bool {
        self.here.retain(|_, page| page.is_active());
        document.keep_replicas(|author| self.here.contains_key(author));
        if self.here.len() >= EDITORS && !self.here.contains_key(author) {
            from.close(CloseCode::POLICY, "too many pages are open on this document");
            return false;
        }
        let before = self.here.insert(author.clone(), from.clone());
        if let Some(before) = before.filter(|before| before.id() != from.id()) {
            before.close(CloseCode::POLICY, "the page has another connection");
        }
        true
    }
}
