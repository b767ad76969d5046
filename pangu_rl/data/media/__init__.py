"""What a row shows, pictures and videos alike: which, in which order, and of a video which frames at which size."""
