"""A model of the online step: lengths of answers, sizes, rates -> **seconds of each phase**, before a device is asked."""
