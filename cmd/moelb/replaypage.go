package main

func (r *replay) page() ([]byte, error) { return nil, nil }
