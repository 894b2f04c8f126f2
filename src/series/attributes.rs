//! Attributes of one frame, wherever the object keeps them.
//!
//! In an enhanced multi-frame object an attribute lies in the frame's own functional group or in
//! the shared one (PS3.3 C.7.6.16); in a classic object it lies in the root.

use dicom_core::Tag;
use dicom_object::InMemDicomObject;
use dicom_object::mem::InMemElement;

use crate::dicom::{Attributes, Instance};

/// Looks attributes of one frame up.
#[derive(Clone, Copy)]
pub(crate) struct FrameAttributes<'a> {
    instance: &'a Instance,
    number: u32,
}

impl<'a> FrameAttributes<'a> {
    /// Those of frame `number` (counts from 1) of `instance`.
    pub(crate) fn of(instance: &'a Instance, number: u32) -> Self {
        Self { instance, number }
    }

    /// The element `tag` of the root of the object.
    pub(crate) fn root(&self, tag: Tag) -> Option<&'a InMemElement> {
        filled(self.instance.object(), tag)
    }

    /// The element `tag` in the functional group `group`.
    pub(crate) fn grouped(&self, group: Tag, tag: Tag) -> Option<&'a InMemElement> {
        filled(self.instance.functional_group(self.number, group)?, tag)
    }

    /// As [`Self::grouped`], with the root as the last place to look.
    pub(crate) fn anywhere(&self, group: Tag, tag: Tag) -> Option<&'a InMemElement> {
        self.grouped(group, tag).or_else(|| self.root(tag))
    }

    /// The element `tag` in the sequence `inner` within the functional group `group`.
    pub(crate) fn nested(&self, group: Tag, inner: Tag, tag: Tag) -> Option<&'a InMemElement> {
        filled(self.instance.functional_group(self.number, group)?.item(inner)?, tag)
    }
}

/// The numbers of an element; none when one of them cannot be read or is not finite.
pub(crate) fn numbers(element: &InMemElement) -> Option<Vec<f64>> {
    let values = element.to_multi_float64().ok()?;
    values.iter().all(|v| v.is_finite()).then_some(values)
}

/// Exactly `N` numbers.
pub(crate) fn exactly<const N: usize>(element: &InMemElement) -> Option<[f64; N]> {
    numbers(element)?.try_into().ok()
}

/// The first number.
pub(crate) fn number(element: &InMemElement) -> Option<f64> {
    numbers(element)?.first().copied()
}

/// The text values, without padding.
pub(crate) fn texts(element: &InMemElement) -> Vec<String> {
    let values = element.to_multi_str().map(|values| values.into_owned()).unwrap_or_default();
    values.iter().map(|value| value.trim_matches(['\0', ' ']).to_owned()).collect()
}

fn filled(object: &InMemDicomObject, tag: Tag) -> Option<&InMemElement> {
    object.get(tag).filter(|element| !element.value().to_str().is_ok_and(|t| t.trim().is_empty()))
}
