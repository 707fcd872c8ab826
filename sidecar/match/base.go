package match

const (
	alphanumeric = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	base64Std    = alphanumeric + "+/"
	base64URL    = alphanumeric + "-_"
)

// Base64 gives the units of the base64 text (RFC 4648 sections 4 and 5) that
// text becomes where it begins offset bytes, 0 to 2, after a multiple of three.
// Every character that carries a bit of text is part of it, and padding is not.
// Lines may be broken anywhere (RFC 2045), also as JSON writes that, and be indented.
func Base64(text []byte, offset int) []*Unit {
	first, end := offset*8, (offset+len(text))*8
	known := make(map[[2]byte]*Unit)
	units := make([]*Unit, 0, len(text)*4/3+2)
	for at := first / 6 * 6; at < end; at += 6 {
		var fixed, mask byte
		for bit := at; bit < at+6; bit++ {
			fixed, mask = fixed<<1, mask<<1
			if bit >= first && bit < end {
				mask |= 1
				fixed |= text[(bit-first)/8] >> (7 - bit%8) & 1
			}
		}
		if at <= first { // no line break before the first
			units = append(units, spellSextet(newUnit(2), fixed, mask))
			continue
		}
		key := [2]byte{fixed, mask}
		if known[key] == nil {
			known[key] = spellSextet(newUnit(2).broken(), fixed, mask)
		}
		units = append(units, known[key])
	}
	return units
}

// broken lets line breaks and spaces come before the unit.
func (u *Unit) broken() *Unit {
	u.breaks = true
	for _, c := range []byte("\n\r\t ") {
		u.edge(entry, c, entry)
	}
	escape := u.backslash(entry)
	u.edge(escape, 'n', entry)
	u.edge(escape, 'r', entry)
	return u
}

// spellSextet adds the characters of both alphabets for the sextets that have
// the fixed bits where mask is set.
func spellSextet(u *Unit, fixed, mask byte) *Unit {
	for v := range byte(64) {
		switch {
		case v&mask != fixed:
		case v < 62:
			u.edge(entry, base64Std[v], exit)
		default:
			u.spell(entry, base64Std[v], exit)
			u.edge(entry, base64URL[v], exit)
		}
	}
	return u
}

// Hex gives the units of text in hexadecimal, in either case, with or without spaces,
// colons or hyphens between its bytes. Lines may be broken as those of Base64.
func Hex(text []byte) []*Unit {
	const digits, between = "0123456789abcdef", ":-"
	var first, high, low [16]*Unit
	for v := range digits {
		first[v], high[v], low[v] = newUnit(1), newUnit(2).broken(), newUnit(2).broken()
		for i := range len(between) {
			high[v].edge(entry, between[i], entry)
		}
		for _, u := range []*Unit{first[v], high[v], low[v]} {
			u.hex(entry, digits[v:v+1], exit)
		}
	}
	units := make([]*Unit, 0, 2*len(text))
	for i, c := range text {
		if i == 0 {
			units = append(units, first[c>>4], low[c&15])
		} else {
			units = append(units, high[c>>4], low[c&15])
		}
	}
	return units
}
