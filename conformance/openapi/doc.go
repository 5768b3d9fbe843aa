// Package openapi describes the server as OpenAPI 3.1 documents: one for each resource type, and one for what concerns
// the whole server. They come from the registry, like routes and CapabilityStatement, and hold examples that HL7
// published.
package openapi
