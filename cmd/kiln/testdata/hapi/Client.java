// Client goes through a server with HAPI FHIR's generic client, whose parser refuses what R4 does not know, in JSON and in
// XML, and has HAPI FHIR's validator look at what the server makes by itself. It expects the demo data.
//
//   java -cp LIBRARIES Client.java http://localhost:8080/fhir
//
// writes a line for each check, and ends with 1 when one failed.

import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.parser.StrictErrorHandler;
import ca.uhn.fhir.rest.api.*;
import ca.uhn.fhir.rest.client.api.IGenericClient;
import ca.uhn.fhir.rest.client.api.ServerValidationModeEnum;
import ca.uhn.fhir.rest.gclient.*;
import ca.uhn.fhir.rest.param.DateRangeParam;
import ca.uhn.fhir.rest.server.exceptions.*;
import ca.uhn.fhir.util.BundleBuilder;
import ca.uhn.fhir.validation.*;
import java.net.URI;
import java.net.http.*;
import java.time.Instant;
import java.util.*;
import org.hl7.fhir.common.hapi.validation.support.*;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;
import org.hl7.fhir.r4.model.*;

public class Client {
  interface Check { Object run() throws Exception; }

  static int failed;

  static void check(String name, Object want, Check check) {
    Object got;
    try {
      got = check.run();
    } catch (Throwable e) {
      got = e.getClass().getSimpleName() + ": " + e.getMessage();
    }
    boolean ok = want.equals(got);
    if (!ok) failed++;
    System.out.println(ok ? "ok   " + name : "FAIL " + name + ": " + got + ", want " + want);
  }

  static ICriterion<TokenClientParam> identifier(String value) {
    return Patient.IDENTIFIER.exactly().systemAndCode("urn:hapi", value);
  }

  static Parameters patch(String type, String path, String name, Type value) {
    Parameters p = new Parameters();
    var operation = p.addParameter().setName("operation");
    operation.addPart().setName("type").setValue(new CodeType(type));
    operation.addPart().setName("path").setValue(new StringType(path));
    if (name != null) operation.addPart().setName("name").setValue(new StringType(name));
    operation.addPart().setName("value").setValue(value);
    return p;
  }

  static int status(Check check) throws Exception {
    try {
      check.run();
      return 200;
    } catch (BaseServerResponseException e) {
      return e.getOperationOutcome() == null ? -e.getStatusCode() : e.getStatusCode();
    }
  }

  static void calls(FhirContext context, String base, EncodingEnum encoding) {
    IGenericClient client = context.newRestfulGenericClient(base);
    client.setEncoding(encoding);
    String in = encoding + " ", mark = encoding.name();
    String[] id = new String[1];

    check(in + "capabilities", 146, () -> client.capabilities().ofType(CapabilityStatement.class).execute().getRestFirstRep().getResource().size());
    check(in + "create", "true 1990-02-03", () -> {
      Patient p = new Patient();
      p.addName().setFamily("Hapi").addGiven("Client");
      p.addIdentifier().setSystem("urn:hapi").setValue(mark);
      p.setBirthDateElement(new DateType("1990-02-03"));
      MethodOutcome made = client.create().resource(p).prefer(PreferReturnEnum.REPRESENTATION).execute();
      id[0] = made.getId().getIdPart();
      return made.getCreated() + " " + ((Patient) made.getResource()).getBirthDateElement().getValueAsString();
    });
    check(in + "create by criteria that match", id[0], () ->
        client.create().resource(new Patient()).conditional().where(identifier(mark)).execute().getId().getIdPart());
    check(in + "read", "Hapi", () -> client.read().resource(Patient.class).withId(id[0]).execute().getNameFirstRep().getFamily());
    check(in + "read of the same version", "none", () ->
        Objects.requireNonNullElse(client.read().resource(Patient.class).withId(id[0]).ifVersionMatches("1").returnNull().execute(), "none"));
    check(in + "read of elements", true, () -> {
      Patient p = client.read().resource(Patient.class).withId(id[0]).elementsSubset("name").execute();
      return p.hasName() && !p.hasBirthDate() && p.getMeta().getTag().stream().anyMatch(tag -> "SUBSETTED".equals(tag.getCode()));
    });
    check(in + "vread", "1", () -> client.read().resource(Patient.class).withIdAndVersion(id[0], "1").execute().getIdElement().getVersionIdPart());
    check(in + "update", "2", () -> {
      Patient p = client.read().resource(Patient.class).withId(id[0]).execute();
      p.setActive(true);
      return client.update().resource(p).execute().getId().getVersionIdPart();
    });
    check(in + "update by criteria", "3", () -> {
      Patient p = new Patient();
      p.addIdentifier().setSystem("urn:hapi").setValue(mark);
      p.addName().setFamily("Hapi");
      return client.update().resource(p).conditional().where(identifier(mark)).execute().getId().getVersionIdPart();
    });
    check(in + "JSON Patch", "4", () ->
        client.patch().withBody("[{\"op\":\"add\",\"path\":\"/active\",\"value\":false}]").withId("Patient/" + id[0]).execute().getId().getVersionIdPart());
    check(in + "FHIRPath Patch", "5", () ->
        client.patch().withFhirPatch(patch("replace", "Patient.active", null, new BooleanType(true))).withId("Patient/" + id[0]).execute().getId().getVersionIdPart());
    check(in + "FHIRPath Patch by criteria", "6", () ->
        client.patch().withFhirPatch(patch("add", "Patient", "telecom", new ContactPoint().setSystem(ContactPoint.ContactPointSystem.PHONE).setValue("1")))
            .conditional(Patient.class).where(identifier(mark)).execute().getId().getVersionIdPart());
    check(in + "history of an instance", 6, () -> client.history().onInstance(new IdType("Patient", id[0])).returnBundle(Bundle.class).execute().getEntry().size());
    check(in + "history of a type", 3, () -> client.history().onType(Patient.class).returnBundle(Bundle.class).count(3).execute().getEntry().size());
    check(in + "history of everything", true, () ->
        client.history().onServer().returnBundle(Bundle.class).since(new Date(System.currentTimeMillis() - 3_600_000)).execute().hasEntry());

    for (SearchStyleEnum style : SearchStyleEnum.values())
      check(in + "search, " + style, 1, () -> client.search().forResource(Patient.class).where(Patient.FAMILY.matches().value("hapi")).and(identifier(mark))
          .sort().ascending(Patient.NAME).count(2).totalMode(SearchTotalModeEnum.ACCURATE).usingStyle(style).returnBundle(Bundle.class).execute().getTotal());
    check(in + "search with a map", 1, () ->
        client.search().forResource("Patient").whereMap(Map.of("identifier", List.of("urn:hapi|" + mark), "_lastUpdated", List.of("gt2020-01-01"))).returnBundle(Bundle.class).execute().getTotal());
    check(in + "search with includes", true, () -> client.search().forResource(Appointment.class).include(Appointment.INCLUDE_ACTOR.asRecursive())
        .returnBundle(Bundle.class).execute().getEntry().stream().anyMatch(e -> e.getSearch().getMode() == Bundle.SearchEntryMode.INCLUDE));
    check(in + "search along a chain", true, () ->
        client.search().forResource(Appointment.class).where(Appointment.PATIENT.hasChainedProperty(Patient.NAME.matches().value("amara"))).returnBundle(Bundle.class).execute().hasEntry());
    check(in + "search by what refers to it", 1, () ->
        client.search().forResource(Patient.class).where(new TokenClientParam("_has:Observation:patient:code").exactly().code("8302-2")).returnBundle(Bundle.class).execute().getEntry().size());
    check(in + "search of a composite", 1, () -> client.search().forResource(Observation.class).where(Observation.CODE_VALUE_QUANTITY
        .withLeft(Observation.CODE.exactly().code("8302-2")).withRight(Observation.VALUE_QUANTITY.greaterThan().number(1).andNoUnits())).returnBundle(Bundle.class).execute().getEntry().size());
    check(in + "count by date", true, () -> client.search().forResource(Patient.class).lastUpdated(new DateRangeParam("2020-01-01", "2100-01-01"))
        .summaryMode(SummaryEnum.COUNT).returnBundle(Bundle.class).execute().getTotal() >= 3);
    check(in + "search of nothing by tag, profile and label", 0, () ->
        client.search().forResource(Patient.class).withTag("urn:s", "x").withProfile("http://x").withSecurity("urn:s", "y").returnBundle(Bundle.class).execute().getTotal());
    check(in + "search of a compartment", 1, () ->
        client.search().forResource(Patient.class).withIdAndCompartment("demo-amara", "Observation").returnBundle(Bundle.class).execute().getEntry().size());
    check(in + "pages, each match once", true, () -> {
      Bundle page = client.search().byUrl("Slot?_count=7").returnBundle(Bundle.class).execute();
      Set<String> seen = new HashSet<>();
      int matches = 0;
      for (;; page = client.loadPage().next(page).execute()) {
        for (var e : page.getEntry()) seen.add(e.getFullUrl());
        matches += page.getEntry().size();
        if (page.getLink(Bundle.LINK_NEXT) == null) break;
      }
      return matches > 14 && matches == seen.size() && client.loadPage().previous(page).execute().getEntry().size() == 7;
    });

    check(in + "transaction", "TRANSACTIONRESPONSE 201 Created 1.10", () -> {
      Bundle b = new Bundle().setType(Bundle.BundleType.TRANSACTION);
      String urn = "urn:uuid:" + UUID.randomUUID();
      Observation o = new Observation().setStatus(Observation.ObservationStatus.FINAL).setSubject(new Reference(urn)).setValue(new Quantity().setValue(new java.math.BigDecimal("1.10")));
      o.getCode().setText("x");
      b.addEntry().setResource(o).getRequest().setMethod(Bundle.HTTPVerb.POST).setUrl("Observation");
      b.addEntry().setFullUrl(urn).setResource(new Patient().setActive(true)).getRequest().setMethod(Bundle.HTTPVerb.POST).setUrl("Patient");
      Bundle answer = client.transaction().withBundle(b).execute();
      Observation made = client.read().resource(Observation.class).withUrl(answer.getEntryFirstRep().getResponse().getLocation()).execute();
      return answer.getType() + " " + answer.getEntry().get(1).getResponse().getStatus() + " " + made.getValueQuantity().getValue();
    });
    check(in + "transaction by criteria", 4, () -> {
      BundleBuilder b = new BundleBuilder(context);
      b.addTransactionUpdateEntry(new Patient().addIdentifier(new Identifier().setSystem("urn:hapi").setValue(mark + "-b"))).conditional("Patient?identifier=urn:hapi|" + mark + "-b");
      b.addTransactionCreateEntry(new Patient().setActive(true)).conditional("identifier=urn:hapi|" + mark + "-b2");
      b.addTransactionFhirPatchEntry(new IdType("Patient/" + id[0]), patch("add", "Patient", "photo", new Attachment().setTitle("x")));
      b.addTransactionDeleteConditionalEntry("Patient?identifier=urn:hapi|none");
      return client.transaction().withBundle((Bundle) b.getBundle()).execute().getEntry().size();
    });
    check(in + "batch", "200 OK, 404 Not Found", () -> {
      Bundle b = new Bundle().setType(Bundle.BundleType.BATCH);
      b.addEntry().getRequest().setMethod(Bundle.HTTPVerb.GET).setUrl("Patient?_count=1");
      b.addEntry().getRequest().setMethod(Bundle.HTTPVerb.GET).setUrl("Patient/nope");
      var entries = client.transaction().withBundle(b).execute().getEntry();
      return entries.get(0).getResponse().getStatus() + ", " + entries.get(1).getResponse().getStatus();
    });

    Meta tag = new Meta();
    tag.addTag().setSystem("urn:s").setCode("t");
    check(in + "$meta-add", 1, () -> client.meta().add().onResource(new IdType("Patient", id[0])).meta(tag).execute().getTag().size());
    check(in + "$meta", 1, () -> client.meta().get(Meta.class).fromResource(new IdType("Patient", id[0])).execute().getTag().size());
    check(in + "$meta-delete", 0, () -> client.meta().delete().onResource(new IdType("Patient", id[0])).meta(tag).execute().getTag().size());
    check(in + "$validate", true, () -> ((OperationOutcome) client.validate().resource(new Patient().setActive(true)).execute().getOperationOutcome()).hasIssue());
    check(in + "$everything", true, () -> client.operation().onInstance(new IdType("Patient", "demo-amara")).named("$everything").withNoParameters(Parameters.class)
        .useHttpGet().returnResourceType(Bundle.class).execute().getEntry().size() > 2);
    check(in + "$expand", 4, () -> client.operation().onType(ValueSet.class).named("$expand").withParameter(Parameters.class, "url", new UriType("http://hl7.org/fhir/ValueSet/administrative-gender"))
        .returnResourceType(ValueSet.class).execute().getExpansion().getContains().size());
    check(in + "$validate-code", true, () -> client.operation().onType(ValueSet.class).named("$validate-code").withParameter(Parameters.class, "url", new UriType("http://hl7.org/fhir/ValueSet/administrative-gender"))
        .andParameter("code", new CodeType("male")).andParameter("system", new UriType("http://hl7.org/fhir/administrative-gender")).execute().getParameterBool("result"));
    check(in + "Binary as it is", "text/plain hello", () -> {
      Binary b = new Binary();
      b.setContentType("text/plain").setData("hello".getBytes());
      b = client.read().resource(Binary.class).withId(client.create().resource(b).execute().getId().getIdPart()).execute();
      return b.getContentType() + " " + new String(b.getData());
    });

    check(in + "delete", 410, () -> {
      client.delete().resourceById("Patient", id[0]).execute();
      return status(() -> client.read().resource(Patient.class).withId(id[0]).execute());
    });
    check(in + "a part is no whole", 422, () -> status(() ->
        client.update().resource(client.search().byUrl("Patient?_id=demo-amara&_elements=name").returnBundle(Bundle.class).execute().getEntryFirstRep().getResource()).execute()));
    check(in + "delete by criteria", 0, () -> {
      client.delete().resourceConditionalByType("Patient").where(identifier(mark + "-b")).execute();
      return client.search().forResource(Patient.class).where(identifier(mark + "-b")).returnBundle(Bundle.class).execute().getTotal();
    });
    check(in + "not found", 404, () -> status(() -> client.read().resource(Patient.class).withId("nope").execute()));
    check(in + "other version", 412, () -> status(() ->
        client.update().resource((Patient) new Patient().setId("demo-amara")).withAdditionalHeader("If-Match", "W/\"99\"").execute()));
    check(in + "invalid", 422, () -> status(() -> client.create().resource(new Observation()).execute()));
    check(in + "unknown parameter", 400, () -> status(() -> client.search().byUrl("Patient?nme=x").returnBundle(Bundle.class).execute()));
  }

  // What the server makes itself must be valid FHIR.
  static void valid(FhirContext context, String base) {
    FhirInstanceValidator module = new FhirInstanceValidator(new ValidationSupportChain(new DefaultProfileValidationSupport(context),
        new CommonCodeSystemsTerminologyService(context), new InMemoryTerminologyServerValidationSupport(context), new SnapshotGeneratingValidationSupport(context)));
    module.setAnyExtensionsAllowed(true);
    module.setErrorForUnknownProfiles(false);
    FhirValidator validator = context.newValidator().registerValidatorModule(module);
    HttpClient http = HttpClient.newHttpClient();
    Instant now = Instant.now();
    for (String path : List.of("metadata", "Patient?name=a&nme=b", "Patient?_summary=true", "Patient?_explain=true&name=a", "Patient/nope", "Patient?nme=x", "Patient/demo-amara/_history",
        "Patient/demo-amara/$everything", "Patient/demo-amara/$summary", "Appointment?_include=*&_revinclude=*", "Appointment/$find?start=" + now + "&end=" + now.plusSeconds(7 * 86400),
        "Slot", "Schedule", "AuditEvent", "Provenance", "CoverageEligibilityResponse", "CodeSystem/$lookup?system=http://hl7.org/fhir/administrative-gender&code=male"))
      check("valid: " + path, List.of(), () -> {
        String body = http.send(HttpRequest.newBuilder(URI.create(base + "/" + path)).header("Accept", "application/fhir+json").header("Prefer", "handling=lenient").build(), HttpResponse.BodyHandlers.ofString()).body();
        List<String> errors = new ArrayList<>();
        for (SingleValidationMessage m : validator.validateWithResult(body).getMessages())
          if (m.getSeverity().ordinal() >= ResultSeverityEnum.ERROR.ordinal() && !m.getMessage().startsWith("Invalid profile. Failed to retrieve profile")) // the IPS is in no library
            errors.add(m.getLocationString() + ": " + m.getMessage());
        return errors;
      });
  }

  public static void main(String[] args) {
    FhirContext context = FhirContext.forR4();
    context.setParserErrorHandler(new StrictErrorHandler());
    context.getRestfulClientFactory().setServerValidationMode(ServerValidationModeEnum.ONCE);
    context.getRestfulClientFactory().setSocketTimeout(60_000);
    calls(context, args[0], EncodingEnum.JSON);
    calls(context, args[0], EncodingEnum.XML);
    valid(context, args[0]);
    System.exit(failed == 0 ? 0 : 1);
  }
}
