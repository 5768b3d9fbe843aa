package publisher_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"kiln/fhir"
	"kiln/internal/kilntest"
	"kiln/internal/publisher"
	"kiln/storage/terminology"
)

// All concepts here are made up; only the form of the files is that of the publishers.

// release writes files into a zip of that name and returns its path.
func release(t *testing.T, name string, content map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for file, text := range content {
		w, err := z.Create(file)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func connect(t *testing.T) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), kilntest.DB(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func load(t *testing.T, conn *pgx.Conn, system, version, path string, want int) *publisher.Release {
	t.Helper()
	r, err := publisher.Open(system, version, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	for i, again := range []bool{false, true} {
		n, already, err := terminology.Load(t.Context(), conn, r, func(int) {})
		if err != nil || already != again || !again && n != want {
			t.Fatalf("load %d: %d concepts, already %v, %v; want %d", i, n, already, err, want)
		}
	}
	return r
}

// check expands a value set and compares its codes.
func check(t *testing.T, conn *pgx.Conn, url, want string) {
	t.Helper()
	r := terminology.NewResolver(terminology.Direct{Connection: conn}, terminology.Options{})
	s, err := r.Set(t.Context(), url)
	if err != nil {
		t.Errorf("%s: %v", url, err)
		return
	}
	x, err := r.Expand(t.Context(), s, terminology.ExpandOptions{Count: -1})
	if err != nil {
		t.Errorf("%s: %v", url, err)
		return
	}
	var codes []string
	for _, m := range x.Members {
		codes = append(codes, m.Code+"="+m.Display)
	}
	if got := strings.Join(codes, " "); got != want {
		t.Errorf("%s: got %q, want %q", url, got, want)
	}
}

func details(t *testing.T, conn *pgx.Conn, system, code string) *terminology.Details {
	t.Helper()
	r := terminology.NewResolver(terminology.Direct{Connection: conn}, terminology.Options{})
	s, err := r.NeedSystem(t.Context(), system, "")
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Lookup(t.Context(), s, code, "")
	if err != nil || d == nil {
		t.Fatalf("%s: %v, %v", code, d, err)
	}
	return d
}

func property(d *terminology.Details, code string) string {
	var list []string
	for _, p := range d.Properties {
		if p.Code == code {
			list = append(list, p.Value)
		}
	}
	return strings.Join(list, ",")
}

func TestLOINC(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	path := release(t, "Loinc_2.99.zip", map[string]string{
		"Loinc_2.99/LoincTable/Loinc.csv": "\ufeff" + `"LOINC_NUM","COMPONENT","PROPERTY","TIME_ASPCT","SYSTEM","SCALE_TYP","METHOD_TYP","CLASS","DefinitionDescription","STATUS","CLASSTYPE","SHORTNAME","ORDER_OBS","LONG_COMMON_NAME"
"90001-1","Glimmer","MCnc","Pt","Ser","Qn","","CHEM","Says ""how much"", in short","ACTIVE","1","Glim SerPl","Both","Glimmer [Mass/volume] in Serum"
"90002-9","Shine","Prid","Pt","^Patient","Nom","","SURVEY","","DEPRECATED","4","Shine","Observation","Shine"
`,
		"Loinc_2.99/AccessoryFiles/ComponentHierarchyBySystem/ComponentHierarchyBySystem.csv": `PATH_TO_ROOT,SEQUENCE,IMMEDIATE_PARENT,CODE,CODE_TEXT
,1,,LP900000-1,Everything
LP900000-1,1,LP900000-1,LP900001-9,Glimmer
LP900000-1.LP900001-9,1,LP900001-9,90001-1,Glimmer in Serum
`,
		"Loinc_2.99/AccessoryFiles/AnswerFile/AnswerList.csv": `AnswerListId,AnswerListName,AnswerListOID,AnswerStringId,SequenceNumber,DisplayText
LL9001-1,Shades,1.2,LA9001-1,1,Bright
LL9001-1,Shades,1.2,LA9002-9,2,Dark
`,
		"Loinc_2.99/AccessoryFiles/AnswerFile/LoincAnswerListLink.csv": `LoincNumber,LongCommonName,AnswerListId,AnswerListName,AnswerListLinkType,ApplicableContext
90002-9,Shine,LL9001-1,Shades,NORMATIVE,
`,
	})
	r := load(t, conn, "loinc", "", path, 7)
	if v := r.About().GetText("version"); v != "2.99" {
		t.Errorf("version %q", v)
	}
	check(t, conn, "http://loinc.org/vs/LL9001-1", "LA9001-1=Bright LA9002-9=Dark")
	check(t, conn, "http://loinc.org/vs/LP900001-9", "LP900001-9=Glimmer 90001-1=Glimmer [Mass/volume] in Serum")
	d := details(t, conn, terminology.LOINC, "90001-1")
	if property(d, "CLASS") != "CHEM" || property(d, "CLASSTYPE") != "1" || d.Definition != `Says "how much", in short` || len(d.Parents) != 1 || d.Inactive {
		t.Errorf("%+v", d)
	}
	if d := details(t, conn, terminology.LOINC, "90002-9"); !d.Inactive || property(d, "answer-list") != "LL9001-1" {
		t.Errorf("%+v", d)
	}
}

func TestSNOMED(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	const folder = "SnomedCT_X/Snapshot/"
	tabs := func(s string) string { return strings.ReplaceAll(s, " ", "\t") }
	space := func(s string) string { return strings.ReplaceAll(s, "_", " ") }
	path := release(t, "snomed.zip", map[string]string{
		folder + "Terminology/sct2_Concept_Snapshot_INT_20240101.txt": tabs("id effectiveTime active moduleId definitionStatusId\r\n" +
			"138875005 20020131 1 900000000000207008 900000000000074008\r\n1001 20020131 1 900000000000207008 900000000000074008\r\n" +
			"1002 20020131 1 900000000000207008 900000000000073002\r\n1003 20020131 0 900000000000207008 900000000000074008\r\n1004 20020131 1 900000000000207008 900000000000074008\r\n"),
		folder + "Terminology/sct2_Description_Snapshot-en_INT_20240101.txt": space(tabs("id effectiveTime active moduleId conceptId languageCode typeId term caseSignificanceId\n" +
			"51 20020131 1 9 1001 en 900000000000003001 Sparkle_(disorder) 9\n52 20020131 1 9 1001 en 900000000000013009 Glitter 9\n53 20020131 1 9 1001 en 900000000000013009 Sparkle 9\n" +
			"54 20020131 1 9 1002 en 900000000000013009 Great_\"sparkle\" 9\n55 20020131 0 9 1002 en 900000000000013009 Old_name 9\n56 20020131 1 9 1002 de 900000000000013009 Gefunkel 9\n")),
		folder + "Terminology/sct2_Relationship_Snapshot_INT_20240101.txt": tabs("id effectiveTime active moduleId sourceId destinationId relationshipGroup typeId characteristicTypeId modifierId\n" +
			"61 20020131 1 9 1001 138875005 0 116680003 900000000000011006 9\n62 20020131 1 9 1002 1001 0 116680003 900000000000011006 9\n" +
			"63 20020131 1 9 1002 1004 1 363698007 900000000000011006 9\n64 20020131 0 9 1004 1001 0 116680003 900000000000011006 9\n"),
		folder + "Refset/Language/der2_cRefset_LanguageSnapshot-en_INT_20240101.txt": tabs("id effectiveTime active moduleId refsetId referencedComponentId acceptabilityId\n" +
			"a 20020131 1 9 900000000000509007 53 900000000000548007\nb 20020131 1 9 900000000000509007 52 900000000000549004\n"),
		folder + "Refset/Content/der2_Refset_SimpleSnapshot_INT_20240101.txt": tabs("id effectiveTime active moduleId refsetId referencedComponentId\nc 20020131 1 9 7001 1002\n"),
	})
	r := load(t, conn, "snomed", "", path, 5)
	if v := r.About().GetText("version"); v != "http://snomed.info/sct/900000000000207008/version/20240101" {
		t.Errorf("version %q", v)
	}
	check(t, conn, "http://snomed.info/sct?fhir_vs=isa/1001", `1001=Sparkle 1002=Great "sparkle"`)
	check(t, conn, "http://snomed.info/sct?fhir_vs=refset/7001", `1002=Great "sparkle"`)
	d := details(t, conn, terminology.SNOMED, "1002")
	if property(d, "363698007") != "1004" || property(d, "sufficientlyDefined") != "true" || len(d.Designations) != 2 {
		t.Errorf("%+v", d)
	}
	if d := details(t, conn, terminology.SNOMED, "1003"); !d.Inactive {
		t.Errorf("%+v", d)
	}
}

func TestRxNorm(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	path := release(t, "RxNorm_full_01022024.zip", map[string]string{
		"rrf/RXNCONSO.RRF": "91|ENG|||||||||91|RXNORM|IN|91|glimmerol||N|4096|\n92|ENG|||||||||92|RXNORM|SY|92|glim 5 mg||N|4096|\n" +
			"92|ENG|||||||||92|RXNORM|SCD|92|glimmerol 5 MG Oral Tablet||N|4096|\n93|ENG|||||||||93|RXNORM|SCD|93|old||O||\n94|ENG|||||||||94|MMSL|CD|94|not ours||N||\n",
		"rrf/RXNREL.RRF": "91||CUI|RO|92||CUI|has_ingredient|1||RXNORM|RXNORM||||\n",
		"rrf/RXNSTY.RRF": "91|T109|A1|Organic Chemical|AT1||\n",
	})
	r := load(t, conn, "rxnorm", "", path, 3)
	if v := r.About().GetText("version"); v != "01022024" {
		t.Errorf("version %q", v)
	}
	d := details(t, conn, terminology.RxNorm, "92")
	if d.Display != "glimmerol 5 MG Oral Tablet" || property(d, "has_ingredient") != "CUI:91" || property(d, "TTY") != "SCD" || len(d.Designations) != 1 {
		t.Errorf("%+v", d)
	}
	if d := details(t, conn, terminology.RxNorm, "93"); !d.Inactive {
		t.Errorf("%+v", d)
	}
}

func TestICD10CM(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	line := func(number, code, flag, short, long string) string {
		pad := func(s string, n int) string { return s + strings.Repeat(" ", n-len(s)) }
		return pad(number, 6) + pad(code, 8) + flag + " " + pad(short, 61) + long + "\n"
	}
	path := release(t, "codes.zip", map[string]string{
		"icd10cm_order_2025.txt": line("00001", "X90", "0", "Glimmer", "Glimmer, whole") + line("00002", "X901", "0", "Glim 1", "Glimmer of one") +
			line("00003", "X9010", "1", "Glim 1 0", "Glimmer of one, first") + line("00004", "X91", "1", "Shine", "Shine"),
		"icd10cm_tabular_2025.xml": `<?xml version="1.0"?><ICD10CM.tabular><version>2025</version><chapter><name>1</name><desc>Lights (X90-X99)</desc>
			<section id="X90-X91"><desc>Small lights</desc><diag><name>X90</name><desc>Glimmer</desc><diag><name>X90.1</name><desc>Glimmer of one</desc></diag></diag></section></chapter></ICD10CM.tabular>`,
	})
	load(t, conn, "icd10cm", "", path, 6)
	d := details(t, conn, terminology.ICD10CM, "x90.10")
	if d.Code != "X90.10" || d.Display != "Glimmer of one, first" || d.Parents[0].Code != "X90.1" || property(d, "billable") != "true" {
		t.Errorf("%+v", d)
	}
	r := terminology.NewResolver(terminology.Direct{Connection: conn}, terminology.Options{})
	s, err := r.NeedSystem(t.Context(), terminology.ICD10CM, "")
	if err != nil {
		t.Fatal(err)
	}
	if outcome, _, err := r.Subsumption(t.Context(), s, "chapter-1", "X90.10"); err != nil || outcome != terminology.Subsumes {
		t.Errorf("%v %v", outcome, err)
	}
}

func TestFHIR(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range map[string]string{
		"package/CodeSystem-a.json": `{"resourceType":"CodeSystem","url":"http://a","content":"complete","concept":[{"code":"x","concept":[{"code":"y"}]}]}`,
		"package/ValueSet-a.json":   `{"resourceType":"ValueSet","url":"http://a/vs","compose":{"include":[{"system":"http://a"}]}}`,
		"package/Patient-a.json":    `nonsense`,
		"../CodeSystem-evil.json":   `nonsense`,
	} {
		w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(text)), Typeflag: tar.TypeReg})
		w.Write([]byte(text))
	}
	w.Close()
	z.Close()
	path := filepath.Join(t.TempDir(), "p.tgz")
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := publisher.EachResource(t.Context(), []string{path}, func(n *fhir.Node, sum []byte) error {
			if n.ResourceType() != "CodeSystem" {
				return terminology.LoadDefinition(t.Context(), conn, n)
			}
			_, _, err := terminology.Load(t.Context(), conn, terminology.Whole{Node: n, Digest: sum}, func(int) {})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	check(t, conn, "http://a/vs", "x= y=")
}

func TestOpen_refuses(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	for name, c := range map[string]struct{ system, file, content, want string }{
		"no_files":          {"loinc", "a.txt", "", "Loinc.csv"},
		"unknown_system":    {"icd11", "a.txt", "", "none of"},
		"no_version":        {"loinc", "Loinc.csv", "LOINC_NUM,COMPONENT,STATUS,LONG_COMMON_NAME\n", "--version"},
		"column_is_missing": {"loinc", "Loinc_2.1/Loinc.csv", "LOINC_NUM,COMPONENT\n", "STATUS"},
		"line_is_too_short": {"icd10cm", "icd10cm_order_2025.txt", "abc\n", "line 1"},
		"xml_entity":        {"icd10cm", "icd10cm_tabular_2025.xml", `<!DOCTYPE a [<!ENTITY x "y">]><a><chapter><name>&x;</name></chapter></a>`, "entity"},
		"rrf_of_few_fields": {"rxnorm", "RxNorm_full_01022024/RXNCONSO.RRF", "1|2\n", "fields"},
		"no_relationships":  {"snomed", "sct2_Concept_Snapshot_INT_20240101.txt", "", "Relationship"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, c.file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			r, err := publisher.Open(c.system, "", dir)
			if err == nil {
				defer r.Close()
				_, _, err = terminology.Load(t.Context(), conn, r, func(int) {})
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q in it", err, c.want)
			}
		})
	}
}
