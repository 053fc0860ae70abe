"""The commands: one submittable file a verb; files with a leading underscore adapt Ray for them."""
