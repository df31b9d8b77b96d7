//! Which of two subscribers a delivery came from: it stands before the receipt.

use aiki_core::Delivery;
use aiki_core::subscriber::Receipt;

/// Where a delivery came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Primary,
    Backup,
}

impl Origin {
    const fn mark(self) -> char {
        match self {
            Origin::Primary => 'p',
            Origin::Backup => 'b',
        }
    }

    /// Marks deliveries as this one's.
    pub(super) fn mark_all(self, mut deliveries: Vec<Delivery>) -> Vec<Delivery> {
        for delivery in &mut deliveries {
            delivery.receipt.0.insert(0, self.mark());
        }
        deliveries
    }
}

/// Receipts by their origin, each with its place in the list they came from. Foreign ones are left out.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Sorted {
    pub(super) primary: (Vec<usize>, Vec<Receipt>),
    pub(super) backup: (Vec<usize>, Vec<Receipt>),
}

/// Sorts receipts by their origin and takes off its mark.
pub(super) fn sort(receipts: &[Receipt]) -> Sorted {
    let mut sorted = Sorted::default();
    for (place, receipt) in receipts.iter().enumerate() {
        let own = |origin: Origin| receipt.0.strip_prefix(origin.mark());
        let (part, text) = match (own(Origin::Primary), own(Origin::Backup)) {
            (Some(text), _) => (&mut sorted.primary, text),
            (_, Some(text)) => (&mut sorted.backup, text),
            (None, None) => continue,
        };
        part.0.push(place);
        part.1.push(Receipt(text.to_owned()));
    }
    sorted
}

#[cfg(test)]
mod tests {
    use aiki_core::{RunId, WorkflowKey};

    use super::*;

    #[test]
    fn receipts_go_back_to_where_they_came_from_whatever_they_say() {
        let delivery = |receipt: &str| Delivery {
            run: RunId::from_bits(1 << 24),
            workflow: WorkflowKey::user("orders", "1.0.0"),
            receipt: Receipt(receipt.to_owned()),
            claimed: None,
        };
        let mut receipts = Vec::new();
        for (origin, receipt) in [(Origin::Backup, "p1"), (Origin::Primary, "b1"), (Origin::Primary, "")] {
            receipts.extend(origin.mark_all(vec![delivery(receipt)]).into_iter().map(|delivery| delivery.receipt));
        }
        receipts.push(Receipt("x".into()));
        receipts.push(Receipt(String::new()));
        let sorted = sort(&receipts);
        assert_eq!(sorted.primary, (vec![1, 2], vec![Receipt("b1".into()), Receipt(String::new())]));
        assert_eq!(sorted.backup, (vec![0], vec![Receipt("p1".into())]));
    }
}
