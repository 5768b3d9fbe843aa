package oauth

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/xeipuuv/gojsonschema"
)

//go:embed registration.schema.json
var registrationSchema []byte

// maxMetadataFaults is how many faults one refusal of a registration tells.
const maxMetadataFaults = 10

func compileRegistrationSchema() (*gojsonschema.Schema, error) {
	schema, err := gojsonschema.NewSchema(gojsonschema.NewBytesLoader(registrationSchema))
	if err != nil {
		return nil, fmt.Errorf("oauth: the schema of client metadata: %w", err)
	}
	return schema, nil
}

// readMetadata decodes the body of a registration. What is wrong with its form is told all at once, and where; values
// are not repeated.
func (s *Server) readMetadata(body []byte) (*clientMetadata, error) {
	const noObject = "The body is not a JSON object with client metadata."
	if !json.Valid(body) { // the schema's reader would not mind what follows the object
		return nil, badMetadata(noObject)
	}
	result, err := s.registration.Validate(gojsonschema.NewBytesLoader(body))
	if err != nil {
		return nil, badMetadata(noObject)
	}
	if !result.Valid() {
		var faults []string
		for i, fault := range result.Errors() {
			if i == maxMetadataFaults {
				faults = append(faults, fmt.Sprintf("%d more", len(result.Errors())-i))
				break
			}
			faults = append(faults, fault.Field()+": "+fault.Description())
		}
		return nil, badMetadata(noObject + " " + strings.Join(faults, "; ") + ".")
	}
	var m clientMetadata
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, badMetadata(noObject)
	}
	return &m, nil
}
