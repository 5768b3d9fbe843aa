package resources

import "kiln/fhir"

// What the log keeps beside requests of FHIR. The names stand in entries, and in AuditEvents as codes of systemAct.
const (
	ActLogin      = "login"
	ActLogout     = "logout"
	ActGrant      = "grant"
	ActRevoke     = "revoke"
	ActToken      = "token"
	ActReuse      = "token-reuse" // in entries of before ActUnfit alone
	ActUnfit      = "token-refused"
	ActClient     = "client-authentication"
	ActLaunch     = "launch"
	ActRegister   = "register-client"
	ActCredential = "change-credential"
	ActCommand    = "operator-command"
	ActImport     = "import"
	ActExport     = "export"
	ActHook       = "cds-hook"
	ActNotify     = "notification"
	ActBreakGlass = "break-glass"
	ActReview     = "break-glass-review"
	ActAuthorize  = "authorize"
	ActIntrospect = "introspect"
	ActUserInfo   = "userinfo"
	ActAdminister = "administration"
	ActPolicy     = "policy" // written by triggers: migrations/0030_audit.sql
)

// acts tells how AuditEvents name an act: type and subtype, by codes of DICOM where it has them.
// Spec: FHIR R4 valueset-audit-event-type.html, valueset-audit-event-sub-type.html.
var acts = map[string]struct{ typ, subtype fhir.Node }{
	ActLogin:      {userAuthentication, coding(systemDCM, "110122", "Login")},
	ActLogout:     {userAuthentication, coding(systemDCM, "110123", "Logout")},
	ActToken:      {userAuthentication, coding(systemIHE, "ITI-71", "Get Access Token")},
	ActReuse:      {securityAlert, coding(systemDCM, "110126", "Node Authentication")},
	ActUnfit:      {securityAlert, coding(systemDCM, "110126", "Node Authentication")},
	ActClient:     {securityAlert, coding(systemDCM, "110126", "Node Authentication")},
	ActGrant:      {securityAlert, coding(systemDCM, "110136", "Security Roles Changed")},
	ActRevoke:     {securityAlert, coding(systemDCM, "110136", "Security Roles Changed")},
	ActLaunch:     {coding(systemDCM, "110100", "Application Activity"), coding(systemDCM, "110120", "Application Start")},
	ActRegister:   {securityAlert, coding(systemDCM, "110129", "Security Configuration")},
	ActCredential: {securityAlert, coding(systemDCM, "110137", "User security Attributes Changed")},
	ActCommand:    {securityAlert, coding(systemDCM, "110129", "Security Configuration")},
	ActHook:       {coding(systemDCM, "110112", "Query"), fhir.Node{}},
	ActNotify:     {coding(systemDCM, "110106", "Export"), fhir.Node{}},
	ActImport:     {coding(systemDCM, "110107", "Import"), fhir.Node{}},
	ActExport:     {coding(systemDCM, "110106", "Export"), fhir.Node{}},
	ActBreakGlass: {securityAlert, coding(systemDCM, "110127", "Emergency Override Started")},
	ActReview:     {securityAlert, coding(systemDCM, "110138", "Security Object Changed")},
	ActAuthorize:  {securityAlert, coding(systemDCM, "110126", "Node Authentication")},
	ActIntrospect: {coding(systemDCM, "110112", "Query"), fhir.Node{}},
	ActUserInfo:   {coding(systemDCM, "110112", "Query"), fhir.Node{}},
	ActAdminister: {securityAlert, coding(systemDCM, "110129", "Security Configuration")},
	ActPolicy:     {securityAlert, coding(systemDCM, "110136", "Security Roles Changed")},
}

var (
	userAuthentication = coding(systemDCM, "110114", "User Authentication")
	securityAlert      = coding(systemDCM, "110113", "Security Alert")
)

// actCodes are type and subtypes of an act: that of DICOM, and our own name for it.
func actCodes(act string) (typ fhir.Node, subtypes []fhir.Node) {
	known, is := acts[act]
	if !is {
		return securityAlert, []fhir.Node{coding(systemAct, act, "")}
	}
	if known.subtype.Kind == fhir.Object {
		subtypes = append(subtypes, known.subtype)
	}
	return known.typ, append(subtypes, coding(systemAct, act, ""))
}
