package main

func (s *solution) page() ([]byte, error) { return nil, nil }
