package scheduling

import (
	"encoding/base64"
	"encoding/binary"
	"math"
	"time"
)

// Proposal is a time that $find offered. Nothing of it is stored: its id holds it, signed, and fits FHIR's rule for ids.
type Proposal struct {
	Start time.Time
	// Length is whole minutes, a day at most.
	Length time.Duration
	// Schedules and Service are the numbers of the resources (storage.Store.Number); up to three schedules, and zero where
	// no service was asked for.
	Schedules []int64
	Service   int64
}

// MaxProposalSchedules is how many schedules a proposal can join: its id has 64 characters.
const MaxProposalSchedules = 3

// ids takes exactly the 64 characters that FHIR allows in ids.
var ids = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-.").WithPadding(base64.NoPadding)

// proposalEpoch is what starts are counted from, in minutes, in four bytes.
var proposalEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// ID writes the proposal as an id; sign is a keyed hash. It has at most 64 characters.
func (p Proposal) ID(sign func([]byte) int64) string {
	payload := binary.BigEndian.AppendUint32(nil, uint32(p.Start.Sub(proposalEpoch)/time.Minute))
	payload = binary.BigEndian.AppendUint16(payload, uint16(p.Length/time.Minute))
	payload = binary.BigEndian.AppendUint64(payload, uint64(p.Service))
	for _, s := range p.Schedules {
		payload = binary.BigEndian.AppendUint64(payload, uint64(s))
	}
	return ids.EncodeToString(binary.BigEndian.AppendUint64(payload, uint64(sign(payload))))
}

// ParseProposal reads an id that ID made with the same key; anything else is not ok.
func ParseProposal(id string, sign func([]byte) int64) (p Proposal, ok bool) {
	data, err := ids.Strict().DecodeString(id)
	const fixed = 4 + 2 + 8
	if err != nil || len(data) < fixed+8+8 || len(data) > fixed+8*MaxProposalSchedules+8 || (len(data)-fixed)%8 != 0 {
		return p, false
	}
	payload, signature := data[:len(data)-8], data[len(data)-8:]
	if binary.BigEndian.Uint64(signature) != uint64(sign(payload)) {
		return p, false
	}
	p.Start = proposalEpoch.Add(time.Duration(binary.BigEndian.Uint32(payload)) * time.Minute)
	p.Length = time.Duration(binary.BigEndian.Uint16(payload[4:])) * time.Minute
	p.Service = int64(binary.BigEndian.Uint64(payload[6:]))
	for rest := payload[fixed:]; len(rest) > 0; rest = rest[8:] {
		p.Schedules = append(p.Schedules, int64(binary.BigEndian.Uint64(rest)))
	}
	return p, true
}

// Fits says whether the proposal can be written as an id.
func (p Proposal) Fits() bool {
	minutes := p.Start.Sub(proposalEpoch) / time.Minute
	return minutes >= 0 && minutes <= math.MaxUint32 && p.Start.Equal(p.Start.Truncate(time.Minute)) &&
		p.Length >= time.Minute && p.Length <= 24*time.Hour && p.Length%time.Minute == 0 &&
		len(p.Schedules) >= 1 && len(p.Schedules) <= MaxProposalSchedules
}
