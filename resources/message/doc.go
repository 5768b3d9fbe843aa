// Package message says what messages say: the events that people are told of, the words for them in several languages,
// dates as people write them, and the hours in which nobody is disturbed. It reads no resources and sends nothing.
package message
