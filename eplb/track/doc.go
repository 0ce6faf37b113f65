// Package track follows what experts get in a system that runs: a Tracker adds
// it up, window by window, a Forecast says what of it the next plan should look
// at, and Backtest which forecast would have kept the next window most even.
package track
