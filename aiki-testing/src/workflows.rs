//! What an environment is started with.

use aiki_core::RegisteredWorkflow;

/// Several workflow versions: an array or a `Vec` of one type, or a tuple of up to eight of different types.
pub trait Workflows {
    /// The versions with their types erased.
    fn registered(self) -> Vec<RegisteredWorkflow>;
}

impl<W: Into<RegisteredWorkflow>, const N: usize> Workflows for [W; N] {
    fn registered(self) -> Vec<RegisteredWorkflow> {
        self.into_iter().map(Into::into).collect()
    }
}

impl<W: Into<RegisteredWorkflow>> Workflows for Vec<W> {
    fn registered(self) -> Vec<RegisteredWorkflow> {
        self.into_iter().map(Into::into).collect()
    }
}

macro_rules! tuples {
    ($(($($part:ident)+))+) => {$(
        impl<$($part: Into<RegisteredWorkflow>),+> Workflows for ($($part,)+) {
            #[allow(non_snake_case, reason = "named as their types")]
            fn registered(self) -> Vec<RegisteredWorkflow> {
                let ($($part,)+) = self;
                vec![$($part.into()),+]
            }
        }
    )+};
}

tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) }
