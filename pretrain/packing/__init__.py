"""Samples -> **packs**: planned offline from metadata alone, or online from a stream. No picture is opened here."""
