//! Requests that wait for their turn: by class, within a class image by image.

use std::collections::{BTreeMap, VecDeque};

use crate::Cause;

/// A request's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Ticket(pub(super) u64);

/// One request that waits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) cause: Cause,
    pub(super) image: u64,
    pub(super) bytes: u64,
}

/// The lines of all classes.
#[derive(Debug, Default)]
pub(super) struct Lines {
    classes: [Line; Cause::ALL.len()],
}

/// Who waits in one class, by image.
#[derive(Debug, Default)]
struct Line {
    images: BTreeMap<u64, VecDeque<Waiting>>,
    /// The image that was served last.
    last: u64,
}

impl Lines {
    pub(super) fn join(&mut self, waiting: Waiting) {
        let line = &mut self.classes[waiting.cause as usize];
        line.images
            .entry(waiting.image)
            .or_default()
            .push_back(waiting);
    }

    /// Who is next: the most urgent class, in it the image after the one served last, of that
    /// the first.
    pub(super) fn next(&self) -> Option<Waiting> {
        self.classes.iter().find_map(Line::next)
    }

    /// Takes the next one out, whose image has had its turn then.
    pub(super) fn serve(&mut self) -> Option<Waiting> {
        let next = self.next()?;
        let line = &mut self.classes[next.cause as usize];
        line.last = next.image;
        line.take(next.image, next.ticket)
    }

    /// Takes out one that gives up its place.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<Waiting> {
        self.classes.iter_mut().find_map(|line| {
            let images: Vec<u64> = line.images.keys().copied().collect();
            images
                .into_iter()
                .find_map(|image| line.take(image, ticket))
        })
    }
}

impl Line {
    fn next(&self) -> Option<Waiting> {
        let behind = self.images.range(self.last.saturating_add(1)..);
        let (_, waiting) = behind.chain(&self.images).next()?;
        waiting.front().copied()
    }

    fn take(&mut self, image: u64, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.images.get_mut(&image)?;
        let at = waiting.iter().position(|w| w.ticket == ticket)?;
        let taken = waiting.remove(at);
        if waiting.is_empty() {
            self.images.remove(&image);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::{Lines, Ticket, Waiting};
    use crate::Cause;

    fn waiting(ticket: u64, cause: Cause, image: u64) -> Waiting {
        Waiting {
            ticket: Ticket(ticket),
            cause,
            image,
            bytes: 1,
        }
    }

    fn served(lines: &mut Lines) -> Vec<u64> {
        std::iter::from_fn(|| lines.serve())
            .map(|waiting| waiting.ticket.0)
            .collect()
    }

    #[test]
    fn classes_go_by_urgency_and_images_take_turns() {
        let mut lines = Lines::default();
        for (ticket, cause, image) in [
            (1, Cause::Background, 7),
            (2, Cause::Background, 7),
            (3, Cause::Background, 9),
            (4, Cause::Speculation, 7),
            (5, Cause::Demand, 9),
            (6, Cause::StartUp, 7),
            (7, Cause::Demand, 7),
            (8, Cause::Demand, 9),
        ] {
            lines.join(waiting(ticket, cause, image));
        }
        assert_eq!(served(&mut lines), [7, 5, 8, 6, 4, 1, 3, 2]);
        assert!(lines.next().is_none());
    }

    #[test]
    fn an_image_that_asks_much_waits_for_one_that_asks_little() {
        let mut lines = Lines::default();
        for ticket in 0..10 {
            lines.join(waiting(ticket, Cause::Background, 1));
        }
        assert_eq!(lines.serve().map(|w| w.ticket), Some(Ticket(0)));
        lines.join(waiting(10, Cause::Background, 2));
        assert_eq!(lines.serve().map(|w| w.ticket), Some(Ticket(10)));
        assert_eq!(lines.serve().map(|w| w.ticket), Some(Ticket(1)));
    }

    #[test]
    fn a_place_can_be_given_up() {
        let mut lines = Lines::default();
        lines.join(waiting(1, Cause::StartUp, 1));
        lines.join(waiting(2, Cause::StartUp, 1));
        assert!(lines.leave(Ticket(1)).is_some());
        assert!(lines.leave(Ticket(1)).is_none());
        assert_eq!(served(&mut lines), [2]);
    }
}
