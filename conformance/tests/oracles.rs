//! The suite on the oracles and doubles themselves: what is compared with must hold on its own.

use parhelion_conformance::{Checked, Faulty, Naive, Null, Recording, Remote, Sizes};

parhelion_conformance::suite!(naive, Naive, Sizes::SMALL);
parhelion_conformance::suite!(null, Null::default(), Sizes::SMALL);
parhelion_conformance::suite!(remote, Remote::new(Naive), Sizes::SMALL);
parhelion_conformance::suite!(short_of_memory, Remote::new(Naive).with_memory(1 << 20), Sizes::SMALL);
parhelion_conformance::suite!(checked, Checked::new(Remote::new(Naive), Naive), Sizes::SMALL);
parhelion_conformance::suite!(faultless, Faulty::new(Naive, "faultless"), Sizes::SMALL);
parhelion_conformance::suite!(recording, Recording::new(Remote::new(Naive)), Sizes::SMALL);
