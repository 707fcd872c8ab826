import jakarta.servlet.http.*;
import java.io.*;
import java.util.*;
import org.apache.catalina.connector.Connector;
import org.apache.catalina.startup.Tomcat;

/** Says on its standard output what Tomcat sees. */
class Main {
	static String list(Enumeration<String> values) {
		StringJoiner joined = new StringJoiner(",", "[", "]");
		for (String value : Collections.list(values)) joined.add(quote(value));
		return joined.toString();
	}

	static String quote(String text) {
		StringBuilder quoted = new StringBuilder("\"");
		for (char c : text.toCharArray())
			quoted.append(c < ' ' || c > '~' || c == '"' || c == '\\' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
		return quoted.append('"').toString();
	}

	static class Recorder extends HttpServlet {
		@Override
		protected void service(HttpServletRequest request, HttpServletResponse response) throws IOException {
			int length = request.getInputStream().readAllBytes().length;
			String query = request.getQueryString() == null ? "" : "?" + request.getQueryString();
			String sight = String.format("{\"method\":%s,\"target\":%s,\"exchange\":%s,\"key\":%s,\"length\":%d}", quote(request.getMethod()),
				quote(request.getRequestURI() + query), list(request.getHeaders("X-Exchange")), list(request.getHeaders("X-Api-Key")), length);
			synchronized (System.out) {
				System.out.println(sight);
				System.out.flush();
			}
			response.setHeader("X-Seen", String.join(",", Collections.list(request.getHeaders("X-Exchange"))));
			response.getOutputStream().write("seen\n".getBytes());
		}
	}

	public static void main(String[] args) throws Exception {
		Tomcat tomcat = new Tomcat();
		tomcat.setBaseDir(args[1]);
		Connector connector = new Connector("HTTP/1.1");
		connector.setPort(Integer.parseInt(args[0]));
		connector.setProperty("address", "127.0.0.1");
		connector.setProperty("maxHttpRequestHeaderSize", "131072");
		connector.setProperty("maxKeepAliveRequests", "-1");
		connector.setProperty("keepAliveTimeout", "300000");
		connector.setProperty("connectionTimeout", "300000");
		connector.setProperty("maxThreads", "16");
		connector.setAllowTrace(true);
		tomcat.setConnector(connector);
		var context = tomcat.addContext("", args[1]);
		Tomcat.addServlet(context, "recorder", new Recorder());
		context.addServletMappingDecoded("/*", "recorder");
		tomcat.start();
		tomcat.getServer().await();
	}
}
